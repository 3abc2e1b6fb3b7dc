/*
 * BearSSL, the TLS of the ESP8266, as a pipe: standard input and output carry the plaintext, what happened goes to
 * standard error. Settings are key=value arguments:
 *   host, port, name   where to connect and the name that the server's certificate must carry
 *   ca                 the trust anchor (DER)
 *   cert (repeatable)  our chain, leaf first (DER); none: no client certificate
 *   key                our P-256 key (DER)
 *   buffer             plaintext bytes of the record buffers, each way (512, 1024, ... 16384)
 *   announce=no        do not tell the server about the small buffer (max_fragment_length, RFC 6066 section 4)
 *   now                the device's clock, seconds since 1970; the machine's when absent
 */
#include <arpa/inet.h>
#include <bearssl.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define CERTS_MAX 4
#define FILE_BYTES_MAX 8192
#define DAYS_BEFORE_1970 719528u
/* What a record of the cipher suites adds to its plaintext: see BR_SSL_BUFSIZE_INPUT and BR_SSL_BUFSIZE_OUTPUT. */
#define INPUT_OVERHEAD 325
#define OUTPUT_OVERHEAD 85

static void die(const char *what) {
    fprintf(stderr, "error: %s\n", what);
    exit(2);
}

static size_t load(const char *path, unsigned char *into) {
    FILE *file = fopen(path, "rb");
    if (file == NULL) die(path);
    size_t len = fread(into, 1, FILE_BYTES_MAX, file);
    fclose(file);
    return len;
}

static unsigned char dn_bytes[FILE_BYTES_MAX];
static size_t dn_len;

static void append_dn(void *unused, const void *bytes, size_t len) {
    (void)unused;
    if (dn_len + len > sizeof dn_bytes) die("the name of the trust anchor is too long");
    memcpy(dn_bytes + dn_len, bytes, len);
    dn_len += len;
}

static br_x509_trust_anchor anchor_from(const char *path) {
    static unsigned char der[FILE_BYTES_MAX];
    static br_x509_decoder_context decoder;
    size_t len = load(path, der);
    br_x509_decoder_init(&decoder, append_dn, NULL);
    br_x509_decoder_push(&decoder, der, len);
    br_x509_pkey *key = br_x509_decoder_get_pkey(&decoder);
    if (key == NULL) die("the trust anchor cannot be read");
    br_x509_trust_anchor anchor = {{dn_bytes, dn_len}, BR_X509_TA_CA, *key};
    return anchor;
}

static int dial(const char *host, int port) {
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port)};
    if (inet_pton(AF_INET, host, &to.sin_addr) != 1) die("host is not an IPv4 address");
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&to, sizeof to) != 0) die("cannot connect");
    return fd;
}

static void write_all(int fd, const unsigned char *bytes, size_t len) {
    while (len > 0) {
        ssize_t done = write(fd, bytes, len);
        if (done <= 0) exit(1);
        bytes += done;
        len -= (size_t)done;
    }
}

static int finished(br_ssl_engine_context *engine) {
    int error = br_ssl_engine_last_error(engine);
    if (error == BR_ERR_OK) return 0;
    if (error >= BR_ERR_RECV_FATAL_ALERT) {
        fprintf(stderr, "BearSSL error %d: received alert %d\n", error, error & 0xff);
    } else {
        fprintf(stderr, "BearSSL error %d\n", error);
    }
    return 1;
}

static int pump(br_ssl_engine_context *engine, int fd) {
    int told = 0;
    for (;;) {
        unsigned state = br_ssl_engine_current_state(engine);
        size_t len;
        if (state & BR_SSL_CLOSED) return finished(engine);
        if (!told && (state & BR_SSL_SENDAPP)) {
            told = 1;
            fprintf(stderr, "handshake done, version %04x, suite %04x\n", engine->session.version,
                    engine->session.cipher_suite);
        }
        if (state & BR_SSL_SENDREC) {
            unsigned char *out = br_ssl_engine_sendrec_buf(engine, &len);
            ssize_t done = send(fd, out, len, MSG_NOSIGNAL);
            if (done <= 0) {
                fprintf(stderr, "the server closed the connection\n");
                return 1;
            }
            br_ssl_engine_sendrec_ack(engine, (size_t)done);
            continue;
        }
        if (state & BR_SSL_RECVAPP) {
            unsigned char *in = br_ssl_engine_recvapp_buf(engine, &len);
            write_all(1, in, len);
            br_ssl_engine_recvapp_ack(engine, len);
            continue;
        }
        struct pollfd ready[2] = {{fd, (state & BR_SSL_RECVREC) ? POLLIN : 0, 0},
                                  {(state & BR_SSL_SENDAPP) ? 0 : -1, POLLIN, 0}};
        if (poll(ready, 2, 60000) <= 0) die("nothing happened for a minute");
        if (ready[0].revents) {
            unsigned char *in = br_ssl_engine_recvrec_buf(engine, &len);
            ssize_t got = read(fd, in, len);
            if (got <= 0) {
                fprintf(stderr, "the server closed the connection\n");
                return 1;
            }
            br_ssl_engine_recvrec_ack(engine, (size_t)got);
        } else if (ready[1].revents) {
            unsigned char *out = br_ssl_engine_sendapp_buf(engine, &len);
            ssize_t got = read(0, out, len);
            if (got > 0) {
                br_ssl_engine_sendapp_ack(engine, (size_t)got);
                br_ssl_engine_flush(engine, 0);
            } else {
                br_ssl_engine_close(engine);
            }
        }
    }
}

int main(int argc, char **argv) {
    static br_ssl_client_context client;
    static br_x509_minimal_context x509;
    static br_skey_decoder_context key_decoder;
    static unsigned char certs[CERTS_MAX][FILE_BYTES_MAX], key_der[FILE_BYTES_MAX];
    static unsigned char input[16384 + INPUT_OVERHEAD], output[16384 + OUTPUT_OVERHEAD];
    br_x509_certificate chain[CERTS_MAX];
    br_x509_trust_anchor anchor = {0};
    const char *host = "127.0.0.1", *name = NULL, *key = NULL;
    size_t chain_len = 0, buffer = 16384;
    int port = 0, announce = 1;
    uint64_t now = (uint64_t)time(NULL);

    for (int i = 1; i < argc; i++) {
        char *value = strchr(argv[i], '=');
        if (value == NULL) die(argv[i]);
        *value++ = 0;
        if (!strcmp(argv[i], "host")) host = value;
        else if (!strcmp(argv[i], "port")) port = atoi(value);
        else if (!strcmp(argv[i], "name")) name = value;
        else if (!strcmp(argv[i], "ca")) anchor = anchor_from(value);
        else if (!strcmp(argv[i], "key")) key = value;
        else if (!strcmp(argv[i], "buffer")) buffer = (size_t)atoi(value);
        else if (!strcmp(argv[i], "announce")) announce = strcmp(value, "no") != 0;
        else if (!strcmp(argv[i], "now")) now = strtoull(value, NULL, 10);
        else if (!strcmp(argv[i], "cert") && chain_len < CERTS_MAX) {
            chain[chain_len].data = certs[chain_len];
            chain[chain_len].data_len = load(value, certs[chain_len]);
            chain_len++;
        } else die(argv[i]);
    }
    if (buffer > 16384 || name == NULL || anchor.dn.len == 0) die("ca, name and a buffer up to 16384 are needed");

    br_ssl_client_init_full(&client, &x509, &anchor, 1);
    br_x509_minimal_set_time(&x509, (uint32_t)(now / 86400) + DAYS_BEFORE_1970, (uint32_t)(now % 86400));
    br_ssl_engine_set_buffers_bidi(&client.eng, input, buffer + INPUT_OVERHEAD, output, buffer + OUTPUT_OVERHEAD);
    if (!announce) client.eng.log_max_frag_len = 14;
    if (chain_len > 0) {
        br_skey_decoder_init(&key_decoder);
        br_skey_decoder_push(&key_decoder, key_der, load(key, key_der));
        const br_ec_private_key *secret = br_skey_decoder_get_ec(&key_decoder);
        if (secret == NULL) die("the key is not an EC key");
        br_ssl_client_set_single_ec(&client, chain, chain_len, secret, BR_KEYTYPE_SIGN, BR_KEYTYPE_EC,
                                    br_ec_get_default(), br_ecdsa_sign_asn1_get_default());
    }
    br_ssl_client_reset(&client, name, 0);
    return pump(&client.eng, dial(host, port));
}
