/* Signed readings for small devices: the digest that a device signs, and the CBOR envelope that it publishes.
 *
 * Portable C99, no allocation, nothing to link; about 2 KiB of code. Signing itself is the business of a secure element
 * or a library (see windlass-scanner.ino): it gets the 32 bytes of windlass_digest() and gives r and s, or DER.
 *
 * The digest is EIP-712's of Reading(bytes32 device,uint32 epoch,uint64 sequence,uint64 observedAt,bytes payload) in the
 * domain { name "Windlass", version "1", chainId, verifyingContract }. docs/devices.md explains the fields.
 */
#ifndef WINDLASS_H
#define WINDLASS_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define WINDLASS_MAX_PAYLOAD 256
#define WINDLASS_MAX_SIGNATURE 72
/* The longest envelope that windlass_envelope() writes. */
#define WINDLASS_MAX_ENVELOPE (33 + WINDLASS_MAX_PAYLOAD + WINDLASS_MAX_SIGNATURE)

typedef struct {
    uint64_t rows[25];
    size_t filled;
} windlass_keccak;

/* keccak-f[1600] (FIPS 202, section 3.3). */
static void windlass_permute(uint64_t a[25]) {
    static const uint8_t turn[24] = {1,  3,  6,  10, 15, 21, 28, 36, 45, 55, 2,  14,
                                     27, 41, 56, 8,  25, 43, 62, 18, 39, 61, 20, 44};
    static const uint8_t lane[24] = {10, 7,  11, 17, 18, 3, 5,  16, 8,  21, 24, 4,
                                     15, 23, 19, 13, 12, 2, 20, 14, 22, 9,  6,  1};
    uint8_t shift = 1;
    for (int round = 0; round < 24; round++) {
        uint64_t column[5], kept;
        for (int x = 0; x < 5; x++) column[x] = a[x] ^ a[x + 5] ^ a[x + 10] ^ a[x + 15] ^ a[x + 20];
        for (int x = 0; x < 5; x++) {
            uint64_t next = column[(x + 1) % 5];
            uint64_t mix = column[(x + 4) % 5] ^ ((next << 1) | (next >> 63));
            for (int y = 0; y < 25; y += 5) a[y + x] ^= mix;
        }
        kept = a[1];
        for (int i = 0; i < 24; i++) {
            uint64_t moved = a[lane[i]];
            a[lane[i]] = (kept << turn[i]) | (kept >> (64 - turn[i]));
            kept = moved;
        }
        for (int y = 0; y < 25; y += 5) {
            uint64_t row[5];
            memcpy(row, a + y, sizeof row);
            for (int x = 0; x < 5; x++) a[y + x] = row[x] ^ (~row[(x + 1) % 5] & row[(x + 2) % 5]);
        }
        /* The round constant, bit by bit out of its shift register. */
        for (int j = 0; j < 7; j++) {
            if (shift & 1) a[0] ^= (uint64_t)1 << (((unsigned)1 << j) - 1);
            shift = (uint8_t)((shift << 1) ^ ((shift >> 7) * 0x71));
        }
    }
}

static void windlass_absorb(windlass_keccak *state, const void *data, size_t length) {
    const uint8_t *bytes = (const uint8_t *)data;
    for (size_t i = 0; i < length; i++) {
        state->rows[state->filled / 8] ^= (uint64_t)bytes[i] << (8 * (state->filled % 8));
        if (++state->filled == 136) {
            windlass_permute(state->rows);
            state->filled = 0;
        }
    }
}

/* Keccak-256 as Ethereum has it: the padding is not SHA-3's. */
static void windlass_finish(windlass_keccak *state, uint8_t out[32]) {
    state->rows[state->filled / 8] ^= (uint64_t)1 << (8 * (state->filled % 8));
    state->rows[16] ^= (uint64_t)1 << 63;
    windlass_permute(state->rows);
    for (int i = 0; i < 32; i++) out[i] = (uint8_t)(state->rows[i / 8] >> (8 * (i % 8)));
}

static void windlass_hash(const void *data, size_t length, uint8_t out[32]) {
    windlass_keccak state;
    memset(&state, 0, sizeof state);
    windlass_absorb(&state, data, length);
    windlass_finish(&state, out);
}

/* A number as one 32-byte word. */
static void windlass_absorb_number(windlass_keccak *state, uint64_t number) {
    uint8_t word[32] = {0};
    for (int i = 0; i < 8; i++) word[31 - i] = (uint8_t)(number >> (8 * i));
    windlass_absorb(state, word, sizeof word);
}

static void windlass_absorb_hash(windlass_keccak *state, const void *data, size_t length) {
    uint8_t hash[32];
    windlass_hash(data, length, hash);
    windlass_absorb(state, hash, sizeof hash);
}

/* What the device signs. `contract` is the 20 bytes of the Windlass contract's address; `observed_at` is unix
 * milliseconds; `sequence` counts 1, 2, 3 … over the whole life of the device. */
static void windlass_digest(uint64_t chain_id, const uint8_t contract[20], const char *device, uint32_t epoch,
                            uint64_t sequence, uint64_t observed_at, const uint8_t *payload, size_t payload_length,
                            uint8_t out[32]) {
    static const char domain_type[] =
        "EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)";
    static const char reading_type[] =
        "Reading(bytes32 device,uint32 epoch,uint64 sequence,uint64 observedAt,bytes payload)";
    uint8_t domain[32], reading[32];
    static const uint8_t zeros[12] = {0};
    windlass_keccak state;

    memset(&state, 0, sizeof state);
    windlass_absorb_hash(&state, domain_type, sizeof domain_type - 1);
    windlass_absorb_hash(&state, "Windlass", 8);
    windlass_absorb_hash(&state, "1", 1);
    windlass_absorb_number(&state, chain_id);
    windlass_absorb(&state, zeros, 12);
    windlass_absorb(&state, contract, 20);
    windlass_finish(&state, domain);

    memset(&state, 0, sizeof state);
    windlass_absorb_hash(&state, reading_type, sizeof reading_type - 1);
    windlass_absorb_hash(&state, device, strlen(device));
    windlass_absorb_number(&state, epoch);
    windlass_absorb_number(&state, sequence);
    windlass_absorb_number(&state, observed_at);
    windlass_absorb_hash(&state, payload, payload_length);
    windlass_finish(&state, reading);

    memset(&state, 0, sizeof state);
    windlass_absorb(&state, "\x19\x01", 2);
    windlass_absorb(&state, domain, 32);
    windlass_absorb(&state, reading, 32);
    windlass_finish(&state, out);
}

/* A CBOR head: the kind in the top three bits, the number in as many bytes as it needs. */
static size_t windlass_head(uint8_t *out, uint8_t kind, uint64_t number) {
    int bytes = number < 24 ? 0 : number <= 0xff ? 1 : number <= 0xffff ? 2 : number <= 0xffffffff ? 4 : 8;
    static const uint8_t code[] = {0, 24, 25, 0, 26, 0, 0, 0, 27};
    out[0] = (uint8_t)(kind << 5 | (bytes ? code[bytes] : number));
    for (int i = 0; i < bytes; i++) out[1 + i] = (uint8_t)(number >> (8 * (bytes - 1 - i)));
    return 1 + (size_t)bytes;
}

/* Writes the envelope to publish, at most WINDLASS_MAX_ENVELOPE bytes; gives its length, 0 when something is too long. */
static size_t windlass_envelope(uint8_t *out, uint32_t epoch, uint64_t sequence, uint64_t observed_at,
                                const uint8_t *payload, size_t payload_length, const uint8_t *signature,
                                size_t signature_length) {
    size_t at = 0;
    if (payload_length == 0 || payload_length > WINDLASS_MAX_PAYLOAD || signature_length > WINDLASS_MAX_SIGNATURE) {
        return 0;
    }
    at += windlass_head(out + at, 5, 5);
    at += windlass_head(out + at, 0, 1);
    at += windlass_head(out + at, 0, epoch);
    at += windlass_head(out + at, 0, 2);
    at += windlass_head(out + at, 0, sequence);
    at += windlass_head(out + at, 0, 3);
    at += windlass_head(out + at, 0, observed_at);
    at += windlass_head(out + at, 0, 4);
    at += windlass_head(out + at, 2, payload_length);
    memcpy(out + at, payload, payload_length);
    at += payload_length;
    at += windlass_head(out + at, 0, 5);
    at += windlass_head(out + at, 2, signature_length);
    memcpy(out + at, signature, signature_length);
    return at + signature_length;
}

#endif
