/* docs/examples/esp32/windlass.h as a program: prints the digest of a reading and its envelope, in hex.
 *
 *   signed_reading CHAIN_ID CONTRACT DEVICE EPOCH SEQUENCE OBSERVED_AT PAYLOAD SIGNATURE      (bytes in hex without 0x)
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "../../docs/examples/esp32/windlass.h"

static size_t from_hex(const char *text, uint8_t *out, size_t room) {
    size_t length = strlen(text) / 2;
    if (length > room) exit(64);
    for (size_t i = 0; i < length; i++) {
        unsigned byte;
        if (sscanf(text + 2 * i, "%2x", &byte) != 1) exit(64);
        out[i] = (uint8_t)byte;
    }
    return length;
}

static void print_hex(const uint8_t *bytes, size_t length) {
    while (length--) printf("%02x", *bytes++);
    puts("");
}

int main(int argc, char **argv) {
    uint8_t contract[20], payload[WINDLASS_MAX_PAYLOAD], signature[WINDLASS_MAX_SIGNATURE], digest[32];
    uint8_t envelope[WINDLASS_MAX_ENVELOPE];
    if (argc != 9 || from_hex(argv[2], contract, sizeof contract) != sizeof contract) return 64;
    const uint32_t epoch = (uint32_t)strtoul(argv[4], NULL, 10);
    const uint64_t sequence = strtoull(argv[5], NULL, 10), observed_at = strtoull(argv[6], NULL, 10);
    const size_t payload_length = from_hex(argv[7], payload, sizeof payload);
    const size_t signature_length = from_hex(argv[8], signature, sizeof signature);
    windlass_digest(strtoull(argv[1], NULL, 10), contract, argv[3], epoch, sequence, observed_at, payload, payload_length,
                    digest);
    print_hex(digest, sizeof digest);
    print_hex(envelope, windlass_envelope(envelope, epoch, sequence, observed_at, payload, payload_length, signature,
                                          signature_length));
    return 0;
}
