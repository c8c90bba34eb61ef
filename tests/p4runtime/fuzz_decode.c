/* Mutated requests for the native decoder, under sanitizers: fuzz_decode SEED ROUNDS PLAN REQUEST
 * PLAN: u32 most, then the plan's words; REQUEST: a serialized WriteRequest. Memory is exactly as large as promised. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct head {
    uint64_t numbers[4];
    uint32_t words[6];
};

int sp_decode_write(const uint8_t *request, uint32_t len, const uint32_t *plan, uint32_t most, uint8_t *out,
                    uint32_t room, uint32_t *marks, uint32_t step, uint32_t n_marks, struct head *head);

static uint64_t state;

static uint32_t draw(uint32_t below)
{
    state = state * 6364136223846793005ull + 1442695040888963407ull;
    return (uint32_t)((state >> 33) % below);
}

static uint8_t *load(const char *path, uint32_t *len)
{
    FILE *f = fopen(path, "rb");
    uint8_t *data = malloc(1 << 20);
    if (!f || !data)
        exit(2);
    *len = (uint32_t)fread(data, 1, 1 << 20, f);
    fclose(f);
    return data;
}

int main(int argc, char **argv)
{
    uint32_t plan_len, len, decoded = 0;
    if (argc != 5)
        return 2;
    state = strtoull(argv[1], NULL, 10);
    uint32_t rounds = (uint32_t)strtoul(argv[2], NULL, 10);
    uint8_t *plan = load(argv[3], &plan_len), *seed = load(argv[4], &len);
    uint32_t most;
    memcpy(&most, plan, 4);
    uint32_t *words = malloc(plan_len - 4);
    memcpy(words, plan + 4, plan_len - 4);
    for (uint32_t i = 0; i < rounds; i++) {
        uint32_t n = draw(8) ? len : draw(len + 1);
        uint8_t *request = malloc(n ? n : 1);
        memcpy(request, seed, n);
        for (uint32_t k = draw(6); k && n; k--)
            request[draw(n)] = draw(3) ? (uint8_t)draw(256) : (uint8_t)(request[draw(n)] ^ 1u << draw(8));
        uint32_t room = 4 * n + 2 * most, n_marks = n / (16 * 3) + 2;
        uint8_t *out = malloc(room);
        uint32_t *marks = malloc(n_marks * sizeof *marks);
        struct head head;
        decoded += (uint32_t)sp_decode_write(request, n, words, most, out, room, marks, 3, n_marks, &head);
        free(marks);
        free(out);
        free(request);
    }
    free(words);
    free(plan);
    free(seed);
    printf("%u\n", decoded);
    return 0;
}
