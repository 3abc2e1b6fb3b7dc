/*
 * Mbed TLS, the TLS of the ESP32, as a pipe: standard input and output carry the plaintext, what happened goes to
 * standard error. Settings are key=value arguments:
 *   host, port, name   where to connect and the name that the server's certificate must carry
 *   ca, cert, key      PEM files; without cert: no client certificate
 *   fragment           announce this maximum fragment length (512, 1024, 2048, 4096; RFC 6066 section 4)
 */
#include <mbedtls/ctr_drbg.h>
#include <mbedtls/entropy.h>
#include <mbedtls/error.h>
#include <mbedtls/net_sockets.h>
#include <mbedtls/ssl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int fail(const char *what, int code, const mbedtls_ssl_context *ssl) {
    char text[160] = "";
    mbedtls_strerror(code, text, sizeof text);
    fprintf(stderr, "Mbed TLS %s: -0x%04x %s\n", what, (unsigned)-code, text);
    uint32_t flags = ssl == NULL ? 0 : mbedtls_ssl_get_verify_result(ssl);
    if (flags != 0 && flags != UINT32_MAX) fprintf(stderr, "Mbed TLS verification flags: 0x%x\n", (unsigned)flags);
    return 1;
}

static int again(int code) {
    return code == MBEDTLS_ERR_SSL_WANT_READ || code == MBEDTLS_ERR_SSL_WANT_WRITE;
}

static int send_all(mbedtls_ssl_context *ssl, const unsigned char *bytes, size_t len) {
    while (len > 0) {
        int done = mbedtls_ssl_write(ssl, bytes, len);
        if (again(done)) continue;
        if (done < 0) return done;
        bytes += done;
        len -= (size_t)done;
    }
    return 0;
}

static int pump(mbedtls_ssl_context *ssl, int fd) {
    static unsigned char bytes[16384];
    for (;;) {
        int got = mbedtls_ssl_read(ssl, bytes, sizeof bytes);
        if (got > 0) {
            if (write(1, bytes, (size_t)got) != got) return 1;
            continue;
        }
        if (got == 0 || got == MBEDTLS_ERR_SSL_PEER_CLOSE_NOTIFY) return 0;
        if (!again(got)) return fail("read", got, NULL);
        struct pollfd ready[2] = {{fd, POLLIN, 0}, {0, POLLIN, 0}};
        if (poll(ready, 2, 60000) <= 0) {
            fprintf(stderr, "nothing happened for a minute\n");
            return 2;
        }
        if (ready[1].revents) {
            ssize_t len = read(0, bytes, sizeof bytes);
            if (len <= 0) {
                mbedtls_ssl_close_notify(ssl);
                return 0;
            }
            int sent = send_all(ssl, bytes, (size_t)len);
            if (sent != 0) return fail("write", sent, NULL);
        }
    }
}

static unsigned char fragment_code(const char *bytes) {
    switch (atoi(bytes)) {
    case 512: return MBEDTLS_SSL_MAX_FRAG_LEN_512;
    case 1024: return MBEDTLS_SSL_MAX_FRAG_LEN_1024;
    case 2048: return MBEDTLS_SSL_MAX_FRAG_LEN_2048;
    default: return MBEDTLS_SSL_MAX_FRAG_LEN_4096;
    }
}

int main(int argc, char **argv) {
    const char *host = "127.0.0.1", *port = "", *name = "", *ca = "", *cert = NULL, *key = NULL, *fragment = NULL;
    for (int i = 1; i < argc; i++) {
        char *value = strchr(argv[i], '=');
        if (value == NULL) return 2;
        *value++ = 0;
        if (!strcmp(argv[i], "host")) host = value;
        else if (!strcmp(argv[i], "port")) port = value;
        else if (!strcmp(argv[i], "name")) name = value;
        else if (!strcmp(argv[i], "ca")) ca = value;
        else if (!strcmp(argv[i], "cert")) cert = value;
        else if (!strcmp(argv[i], "key")) key = value;
        else if (!strcmp(argv[i], "fragment")) fragment = value;
        else return 2;
    }
    mbedtls_net_context net;
    mbedtls_ssl_context ssl;
    mbedtls_ssl_config config;
    mbedtls_x509_crt anchors, chain;
    mbedtls_pk_context secret;
    mbedtls_entropy_context entropy;
    mbedtls_ctr_drbg_context random;
    mbedtls_net_init(&net);
    mbedtls_ssl_init(&ssl);
    mbedtls_ssl_config_init(&config);
    mbedtls_x509_crt_init(&anchors);
    mbedtls_x509_crt_init(&chain);
    mbedtls_pk_init(&secret);
    mbedtls_entropy_init(&entropy);
    mbedtls_ctr_drbg_init(&random);

    int code = mbedtls_ctr_drbg_seed(&random, mbedtls_entropy_func, &entropy, NULL, 0);
    if (code == 0) code = mbedtls_x509_crt_parse_file(&anchors, ca);
    if (code == 0 && cert != NULL) code = mbedtls_x509_crt_parse_file(&chain, cert);
    if (code == 0 && cert != NULL) code = mbedtls_pk_parse_keyfile(&secret, key, NULL);
    if (code == 0)
        code = mbedtls_ssl_config_defaults(&config, MBEDTLS_SSL_IS_CLIENT, MBEDTLS_SSL_TRANSPORT_STREAM,
                                           MBEDTLS_SSL_PRESET_DEFAULT);
    if (code != 0) return fail("setup", code, NULL);
    mbedtls_ssl_conf_authmode(&config, MBEDTLS_SSL_VERIFY_REQUIRED);
    mbedtls_ssl_conf_ca_chain(&config, &anchors, NULL);
    mbedtls_ssl_conf_rng(&config, mbedtls_ctr_drbg_random, &random);
    if (cert != NULL) mbedtls_ssl_conf_own_cert(&config, &chain, &secret);
    if (fragment != NULL) mbedtls_ssl_conf_max_frag_len(&config, fragment_code(fragment));
    if ((code = mbedtls_ssl_setup(&ssl, &config)) != 0) return fail("setup", code, NULL);
    if ((code = mbedtls_ssl_set_hostname(&ssl, name)) != 0) return fail("setup", code, NULL);
    if ((code = mbedtls_net_connect(&net, host, port, MBEDTLS_NET_PROTO_TCP)) != 0) return fail("connect", code, NULL);
    mbedtls_ssl_set_bio(&ssl, &net, mbedtls_net_send, mbedtls_net_recv, NULL);
    while ((code = mbedtls_ssl_handshake(&ssl)) != 0) {
        if (!again(code)) return fail("handshake", code, &ssl);
    }
    fprintf(stderr, "handshake done, %s, %s\n", mbedtls_ssl_get_version(&ssl), mbedtls_ssl_get_ciphersuite(&ssl));
    mbedtls_net_set_nonblock(&net);
    return pump(&ssl, net.fd);
}
