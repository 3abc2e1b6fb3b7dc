/*
 * wolfSSL, as in many small devices, as a pipe: standard input and output carry the plaintext, what happened goes to
 * standard error. Settings are key=value arguments:
 *   host, port, name   where to connect and the name that the server's certificate must carry
 *   ca, cert, key      PEM files; without cert: no client certificate
 *   version            1.2 or 1.3; both when absent
 *   fragment           announce this maximum fragment length (512, 1024, 2048, 4096; RFC 6066 section 4)
 */
#include <wolfssl/options.h>
#include <wolfssl/ssl.h>

#include <fcntl.h>
#include <netdb.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static int fail(const char *what, WOLFSSL *ssl, int code) {
    char text[WOLFSSL_MAX_ERROR_SZ] = "";
    int error = ssl == NULL ? code : wolfSSL_get_error(ssl, code);
    wolfSSL_ERR_error_string((unsigned long)error, text);
    fprintf(stderr, "wolfSSL %s: %d %s\n", what, error, text);
    WOLFSSL_ALERT_HISTORY alerts;
    if (ssl != NULL && wolfSSL_get_alert_history(ssl, &alerts) == WOLFSSL_SUCCESS && alerts.last_rx.level > 0)
        fprintf(stderr, "received alert %d\n", alerts.last_rx.code);
    return 1;
}

static int dial(const char *host, const char *port) {
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *found = NULL;
    if (getaddrinfo(host, port, &hints, &found) != 0) return -1;
    int fd = socket(found->ai_family, found->ai_socktype, 0);
    if (fd >= 0 && connect(fd, found->ai_addr, found->ai_addrlen) != 0) {
        close(fd);
        fd = -1;
    }
    freeaddrinfo(found);
    return fd;
}

static int wants(WOLFSSL *ssl, int code) {
    int error = wolfSSL_get_error(ssl, code);
    return error == WOLFSSL_ERROR_WANT_READ || error == WOLFSSL_ERROR_WANT_WRITE;
}

static int pump(WOLFSSL *ssl, int fd) {
    static unsigned char bytes[16384];
    for (;;) {
        int got = wolfSSL_read(ssl, bytes, sizeof bytes);
        if (got > 0) {
            if (write(1, bytes, (size_t)got) != got) return 1;
            continue;
        }
        if (!wants(ssl, got)) {
            if (wolfSSL_get_error(ssl, got) == WOLFSSL_ERROR_ZERO_RETURN) return 0;
            return fail("read", ssl, got);
        }
        struct pollfd ready[2] = {{fd, POLLIN, 0}, {0, POLLIN, 0}};
        if (poll(ready, 2, 60000) <= 0) {
            fprintf(stderr, "nothing happened for a minute\n");
            return 2;
        }
        if (ready[1].revents) {
            ssize_t len = read(0, bytes, sizeof bytes);
            if (len <= 0) {
                wolfSSL_shutdown(ssl);
                return 0;
            }
            for (ssize_t at = 0; at < len;) {
                int done = wolfSSL_write(ssl, bytes + at, (int)(len - at));
                if (done > 0) at += done;
                else if (!wants(ssl, done)) return fail("write", ssl, done);
            }
        }
    }
}

static unsigned char fragment_code(const char *bytes) {
    switch (atoi(bytes)) {
    case 512: return WOLFSSL_MFL_2_9;
    case 1024: return WOLFSSL_MFL_2_10;
    case 2048: return WOLFSSL_MFL_2_11;
    default: return WOLFSSL_MFL_2_12;
    }
}

int main(int argc, char **argv) {
    const char *host = "127.0.0.1", *port = "", *name = "", *ca = "", *cert = NULL, *key = NULL, *fragment = NULL;
    const char *version = "";
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
        else if (!strcmp(argv[i], "version")) version = value;
        else if (!strcmp(argv[i], "fragment")) fragment = value;
        else return 2;
    }
    wolfSSL_Init();
    WOLFSSL_METHOD *method = !strcmp(version, "1.2")   ? wolfTLSv1_2_client_method()
                             : !strcmp(version, "1.3") ? wolfTLSv1_3_client_method()
                                                       : wolfTLS_client_method();
    WOLFSSL_CTX *context = wolfSSL_CTX_new(method);
    if (context == NULL) return fail("setup", NULL, 0);
    wolfSSL_CTX_set_verify(context, WOLFSSL_VERIFY_PEER, NULL);
    int code = wolfSSL_CTX_load_verify_locations(context, ca, NULL);
    if (code == WOLFSSL_SUCCESS && cert != NULL) code = wolfSSL_CTX_use_certificate_chain_file(context, cert);
    if (code == WOLFSSL_SUCCESS && cert != NULL)
        code = wolfSSL_CTX_use_PrivateKey_file(context, key, WOLFSSL_FILETYPE_PEM);
    if (code == WOLFSSL_SUCCESS && fragment != NULL)
        code = wolfSSL_CTX_UseMaxFragment(context, fragment_code(fragment));
    if (code != WOLFSSL_SUCCESS) return fail("setup", NULL, code);
    WOLFSSL *ssl = wolfSSL_new(context);
    if (ssl == NULL) return fail("setup", NULL, 0);
    wolfSSL_check_domain_name(ssl, name);
    wolfSSL_UseSNI(ssl, WOLFSSL_SNI_HOST_NAME, name, (unsigned short)strlen(name));
    int fd = dial(host, port);
    if (fd < 0) {
        fprintf(stderr, "cannot connect to %s port %s\n", host, port);
        return 1;
    }
    wolfSSL_set_fd(ssl, fd);
    code = wolfSSL_connect(ssl);
    if (code != WOLFSSL_SUCCESS) return fail("handshake", ssl, code);
    fprintf(stderr, "handshake done, %s, %s\n", wolfSSL_get_version(ssl), wolfSSL_get_cipher(ssl));
    fcntl(fd, F_SETFL, O_NONBLOCK);
    wolfSSL_set_using_nonblock(ssl, 1);
    return pump(ssl, fd);
}
