/* The cameras and the light: what lies between the scene and the bytes of a picture. */
#include "synth/internal.h"

enum { RANDOM_CAMERA = 21, RANDOM_LIGHT, RANDOM_DRIFT, RANDOM_NOISE };

/* Exposure: belt at about a third of the grey scale, white paper just below white. */
#define EXPOSURE 1.15
/* Electrons of a white pixel, and read noise in units of white, at noise 1. */
#define ELECTRONS 2600.0
#define READ_NOISE 0.0035

static double draw(struct ws2_random *random, double low, double high)
{
    return ws2_random_range(random, low, high);
}

static void make_lights(struct ws2_synth *synth)
{
    struct ws2_random random = ws2_synth_random(synth->config.plant, RANDOM_LIGHT, 0, 0);
    const double a = draw(&random, 0, 6.2831853), tilt = 0.45;
    struct lights *lights = &synth->lights;
    lights->sun[0] = (float)(tilt * cos(a));
    lights->sun[1] = (float)(tilt * sin(a));
    lights->sun[2] = (float)sqrt(1 - tilt * tilt);
    for (int k = 0; k < LAMPS; k++) {
        /* One lamp near the sun's side, one opposite; the camera looks straight down. */
        const double b = a + 3.0 * k + draw(&random, -0.4, 0.4), lean = draw(&random, 0.20, 0.42);
        const double length = sqrt(1 + lean * lean);
        lights->half[k][0] = (float)(lean * cos(b) / length);
        lights->half[k][1] = (float)(lean * sin(b) / length);
        lights->half[k][2] = (float)(1 / length);
    }
}

static void make_lamps(const struct ws2_synth *synth, struct ws2_random *random, struct camera *camera)
{
    double wx, wy;
    ws2_synth_way(synth, &wx, &wy);
    camera->lamps = 2 + (int)ws2_random_below(random, LAMPS);
    for (int k = 0; k < camera->lamps; k++) {
        const double angle = atan2(wy, wx) + 1.5708 + draw(random, -0.15, 0.15);
        const bool spot = k == LAMPS;
        camera->lamp[k] =
            (struct lamp){.x = (float)draw(random, 0.1, 0.9),
                          .y = (float)draw(random, 0.1, 0.9),
                          .c = (float)cos(angle),
                          .s = (float)sin(angle),
                          .spot = spot,
                          .length = (float)(spot ? draw(random, 0.03, 0.06) : draw(random, 0.12, 0.24)),
                          .width = (float)(spot ? 0.04 : draw(random, 0.012, 0.03)),
                          .strength = (float)(k == 0 ? draw(random, 0.5, 0.9) : draw(random, 0.12, 0.4))};
    }
}

void ws2_synth_make_camera(struct ws2_synth *synth)
{
    static const double gain[3] = {0, 0.13, 0.34}, tint[3] = {0, 0.05, 0.14}, fall[3] = {0.12, 0.10, 0.22};
    const struct ws2_synth_config *config = &synth->config;
    const int level = config->difference;
    /* Cameras that do not differ share the parameters of the one before. */
    const int role = config->after && level != WS2_SYNTH_SAME;
    struct ws2_random common = ws2_synth_random(config->plant, RANDOM_CAMERA, 0, 0);
    struct ws2_random random = ws2_synth_random(config->plant, RANDOM_CAMERA, 1, role);
    struct camera *camera = &synth->camera;
    make_lights(synth);
    /* Which of the two is the brighter and the warmer one is the plant's; how much varies a little. */
    const double brighter = (ws2_random_uniform(&common) < 0.5 ? -1 : 1) * (role ? -0.5 : 0.5);
    const double warmer = (ws2_random_uniform(&common) < 0.5 ? -1 : 1) * (role ? -0.5 : 0.5);
    const double light = EXPOSURE * exp(gain[level] * brighter * draw(&random, 0.8, 1.2));
    const double warm = tint[level] * warmer * draw(&random, 0.7, 1.3);
    const double green = 0.5 * tint[level] * draw(&random, -0.5, 0.5);
    const double channel[3] = {warm, green, -warm};
    for (int c = 0; c < 3; c++)
        camera->gain[c] = (float)(light * exp(channel[c]));
    camera->fall = (float)(config->optics * fall[level] * draw(&random, 0.7, 1.5));
    camera->fall_x = (float)draw(&random, 0.42, 0.58);
    camera->fall_y = (float)draw(&random, 0.42, 0.58);
    make_lamps(synth, &random, camera);
    for (int i = 0; i <= 4096; i++) {
        const double v = i / 4096.0, s = v <= 0.0031308 ? 12.92 * v : 1.055 * pow(v, 1 / 2.4) - 0.055;
        synth->curve[i] = (uint8_t)(255 * s + 0.5);
    }
}

/* ---- painting ------------------------------------------------------------------------------------------------- */

static float lamp_light(const struct lamp *lamp, float x, float y)
{
    const float dx = x - lamp->x, dy = y - lamp->y;
    const float u = (dx * lamp->c + dy * lamp->s) / lamp->length,
                v = (dy * lamp->c - dx * lamp->s) / lamp->width;
    /* A tube is flat along its length and soft across; a spot is round. Both have a wide glow. */
    const float u2 = u * u, v2 = v * v, core = (lamp->spot ? u2 : u2 * u2) + v2,
                glow = 0.12f * (u2 + 0.04f * v2);
    return lamp->strength * ((core < 12 ? expf_same(-core) : 0) + (glow < 9 ? 0.12f * expf_same(-glow) : 0));
}

void ws2_synth_lamp_light(const struct ws2_synth *synth, const struct canvas *canvas)
{
    const float strength = (float)synth->config.optics;
    for (int64_t y = canvas->y0; y < canvas->y1; y++) {
        float *lamp = canvas->lamp + (y - canvas->y0) * canvas->width;
        const float sy = ((float)y + 0.5f) * canvas->px;
        for (int64_t x = 0; x < canvas->width; x++) {
            float sum = 0;
            for (int k = 0; k < synth->camera.lamps && strength > 0; k++)
                sum += lamp_light(&synth->camera.lamp[k], ((float)x + 0.5f) * canvas->px, sy);
            lamp[x] = strength * sum;
        }
    }
}

/* The exposure's slow walk: smooth noise over time with periods of about 20 and 60 frames. */
static float exposure_at(const struct ws2_synth *synth, int64_t t)
{
    if (synth->config.drift <= 0)
        return 1;
    struct ws2_random random = ws2_synth_random(synth->config.seed, RANDOM_DRIFT, synth->config.after, 0);
    const uint32_t salt = (uint32_t)ws2_random_u64(&random);
    double sum = 0;
    const int64_t period[2] = {19, 61};
    for (int k = 0; k < 2; k++) {
        const int64_t n = t / period[k];
        const float w = smoothf((float)(t - n * period[k]) / (float)period[k]);
        sum += mixf(lattice(salt, n, k), lattice(salt, n + 1, k), w);
    }
    return (float)exp(1.3 * synth->config.drift * sum); /* the sum's deviation is about 0.75 */
}

/* A normal deviate from four uniform ones (Irwin-Hall): enough for a sensor, and the same everywhere. */
static float deviate(struct ws2_random *random)
{
    const uint64_t bits = ws2_random_u64(random);
    const int32_t sum = (int32_t)(bits & 0xffff) + (int32_t)(bits >> 16 & 0xffff) +
                        (int32_t)(bits >> 32 & 0xffff) + (int32_t)(bits >> 48);
    return (float)(sum - 131070) * (1 / 37837.2f);
}

void ws2_synth_expose(const struct ws2_synth *synth, int64_t t, const struct canvas *canvas, uint8_t *rgb)
{
    const struct ws2_synth_config *config = &synth->config;
    const struct camera *camera = &synth->camera;
    struct ws2_random random = ws2_synth_random(config->seed, RANDOM_NOISE, t, config->after);
    const float exposure = exposure_at(synth, t), noise = (float)config->noise;
    const float shot = noise * noise / (float)ELECTRONS,
                read = (float)(noise * noise * READ_NOISE * READ_NOISE);
    random.counter = (uint64_t)(canvas->y0 * canvas->width * 3);
    const float *light = canvas->rgb;
    for (int64_t y = canvas->y0; y < canvas->y1; y++) {
        const float dy = ((float)y + 0.5f) * canvas->px - camera->fall_y;
        for (int64_t x = 0; x < canvas->width; x++) {
            const float dx = ((float)x + 0.5f) * canvas->px - camera->fall_x;
            const float fall = exposure * (1 - camera->fall * 2 * (dx * dx + dy * dy));
            for (int c = 0; c < 3; c++) {
                float v = *light++ * fall * camera->gain[c];
                if (noise > 0)
                    v += sqrtf((v > 0 ? v : 0) * shot + read) * deviate(&random);
                *rgb++ = synth->curve[(int)(clampf(v, 0, 1) * 4096 + 0.5f)];
            }
        }
    }
}
