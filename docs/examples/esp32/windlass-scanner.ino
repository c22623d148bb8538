// A barcode scanner that signs what it reads (ESP32, Arduino core 3.x; libraries: PubSubClient, and mbedTLS of the core).
//
// The scanner is on Serial2 and ends each code with a line feed. The device's P-256 key and the number of its next reading
// are kept in flash. A reading keeps its number until the gateway has acknowledged it.
#include <Preferences.h>
#include <PubSubClient.h>
#include <WiFi.h>
#include <WiFiClientSecure.h>
#include <mbedtls/ctr_drbg.h>
#include <mbedtls/ecdsa.h>
#include <mbedtls/entropy.h>
#include <time.h>

#include "windlass.h"

// The device's id and secret as the gateway's config has them, and where the gateway is.
static const char *WIFI_NAME = "…", *WIFI_SECRET = "…";
static const char *GATEWAY = "gateway.example";
static const uint16_t PORT = 8883;
static const char *DEVICE = "dock-7";
static const char *SECRET = "…";
static const char *AUTHORITY = "-----BEGIN CERTIFICATE-----\n…\n-----END CERTIFICATE-----\n";
// From the gateway's config and `windlass deploy`.
static const uint64_t CHAIN_ID = 31337;
static const uint8_t CONTRACT[20] = {0x5F, 0xbD, 0xB2, 0x31, 0x56, 0x78, 0xaf, 0xec, 0xb3, 0x67,
                                     0xf0, 0x32, 0xd9, 0x3F, 0x64, 0x2f, 0x64, 0x18, 0x0a, 0xa3};
// Raised by one with each new key of the device.
static const uint32_t EPOCH = 1;

static WiFiClientSecure tls;
static PubSubClient mqtt(tls);
static Preferences flash;
static mbedtls_entropy_context entropy;
static mbedtls_ctr_drbg_context drbg;
static mbedtls_ecp_keypair key;

static uint64_t sequence;           // of the reading in hand, or of the next one
static uint8_t envelope[WINDLASS_MAX_ENVELOPE];
static size_t envelope_length;      // 0: nothing in hand
static String code;

// Makes the key on the first start; later starts read it. Prints the public half, for the gateway's config.
static void load_key() {
    uint8_t secret[32], point[65];
    size_t length;
    mbedtls_entropy_init(&entropy);
    mbedtls_ctr_drbg_init(&drbg);
    mbedtls_ctr_drbg_seed(&drbg, mbedtls_entropy_func, &entropy, nullptr, 0);
    mbedtls_ecp_keypair_init(&key);
    if (flash.getBytes("key", secret, sizeof secret) == sizeof secret) {
        mbedtls_ecp_read_key(MBEDTLS_ECP_DP_SECP256R1, &key, secret, sizeof secret);
        mbedtls_ecp_keypair_calc_public(&key, mbedtls_ctr_drbg_random, &drbg);
    } else {
        mbedtls_ecp_gen_key(MBEDTLS_ECP_DP_SECP256R1, &key, mbedtls_ctr_drbg_random, &drbg);
        mbedtls_ecp_write_key_ext(&key, &length, secret, sizeof secret);
        flash.putBytes("key", secret, sizeof secret);
    }
    mbedtls_ecp_write_public_key(&key, MBEDTLS_ECP_PF_UNCOMPRESSED, &length, point, sizeof point);
    Serial.print("key = { p256 = \"0x");
    for (int i = 1; i < 65; i++) Serial.printf("%02x", point[i]);
    Serial.println("\" }");
    memset(secret, 0, sizeof secret);
}

// The code becomes the reading in hand: numbered, dated, signed.
static void take(const String &read) {
    uint8_t digest[32], signature[64];
    mbedtls_mpi d, r, s;
    const uint64_t now = (uint64_t)time(nullptr) * 1000;
    const uint8_t *payload = (const uint8_t *)read.c_str();
    windlass_digest(CHAIN_ID, CONTRACT, DEVICE, EPOCH, sequence, now, payload, read.length(), digest);
    mbedtls_mpi_init(&d);
    mbedtls_mpi_init(&r);
    mbedtls_mpi_init(&s);
    mbedtls_ecp_group group;
    mbedtls_ecp_group_init(&group);
    mbedtls_ecp_export(&key, &group, &d, nullptr);
    mbedtls_ecdsa_sign(&group, &r, &s, &d, digest, sizeof digest, mbedtls_ctr_drbg_random, &drbg);
    mbedtls_mpi_write_binary(&r, signature, 32);
    mbedtls_mpi_write_binary(&s, signature + 32, 32);
    mbedtls_ecp_group_free(&group);
    mbedtls_mpi_free(&d);
    mbedtls_mpi_free(&r);
    mbedtls_mpi_free(&s);
    envelope_length =
        windlass_envelope(envelope, EPOCH, sequence, now, payload, read.length(), signature, sizeof signature);
    // In flash before it is sent: after a power cut the same number goes out with the same signature.
    flash.putBytes("envelope", envelope, envelope_length);
}

// PubSubClient publishes with QoS 0, so the acknowledgement is the receipt on the device's own topic.
static void heard(char *topic, uint8_t *message, unsigned length) {
    const String text((const char *)message, length);
    const String mine = "\"sequence\":" + String((unsigned long long)sequence) + ",";
    if (envelope_length && text.indexOf("\"state\":\"accepted\"") >= 0 && text.indexOf(mine) >= 0) {
        envelope_length = 0;
        sequence++;
        flash.putULong64("sequence", sequence);
        flash.remove("envelope");
    }
}

static void connect() {
    while (!mqtt.connect(DEVICE, DEVICE, SECRET)) delay(2000);
    mqtt.subscribe(("devices/" + String(DEVICE) + "/receipts").c_str(), 1);
}

void setup() {
    Serial.begin(115200);
    Serial2.begin(9600);
    flash.begin("windlass", false);
    load_key();
    sequence = flash.getULong64("sequence", 1);
    envelope_length = flash.getBytes("envelope", envelope, sizeof envelope);
    WiFi.begin(WIFI_NAME, WIFI_SECRET);
    while (WiFi.status() != WL_CONNECTED) delay(200);
    configTime(0, 0, "pool.ntp.org");
    while (time(nullptr) < 1700000000) delay(200);
    tls.setCACert(AUTHORITY);
    mqtt.setServer(GATEWAY, PORT);
    mqtt.setBufferSize(1024);
    mqtt.setCallback(heard);
}

void loop() {
    static uint32_t sent;
    if (!mqtt.connected()) {
        connect();
        sent = 0;
    }
    mqtt.loop();
    // One reading at a time: the next code is read once this one has its receipt.
    if (!envelope_length && Serial2.available()) {
        const char c = (char)Serial2.read();
        if (c != '\n' && c != '\r') code += c;
        else if (code.length()) { take(code); code = ""; sent = 0; }
    }
    if (envelope_length && (sent == 0 || millis() - sent > 5000)) {
        mqtt.publish(("devices/" + String(DEVICE) + "/readings").c_str(), envelope, envelope_length);
        sent = millis();
    }
}
