/* Polls AlphaPlus for a symbol's predictions: poll HOST:PORT SYMBOL COUNT
 *
 * Prints `seq value as_of` for each new prediction and ends after COUNT of them. One connection is kept
 * open, and each request waits on the server for up to a second. A 4xx ends it with the server's error.
 * SYMBOL is as it stands in a URL. Needs POSIX alone: cc -O2 -o poll poll.c */

#define _POSIX_C_SOURCE 200809L
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

enum { REPLY_BYTES_MAX = 65536, TEXT_BYTES_MAX = 512 };

struct reply {
    int status;
    char etag[TEXT_BYTES_MAX]; /* empty where there is none */
    char data[REPLY_BYTES_MAX + 1];
    char *body;
};

static void pause_for(const char *reason) {
    struct timespec tenth = {0, 100 * 1000 * 1000};
    fprintf(stderr, "waiting: %s\n", reason);
    nanosleep(&tenth, NULL);
}

/* A connected socket, or -1. */
static int dial(const char *host, const char *port) {
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *found, *at;
    struct timeval limit = {5, 0};
    int connection = -1;
    if (getaddrinfo(host, port, &hints, &found) != 0)
        return -1;
    for (at = found; at && connection < 0; at = at->ai_next) {
        connection = socket(at->ai_family, at->ai_socktype, at->ai_protocol);
        if (connection >= 0 && connect(connection, at->ai_addr, at->ai_addrlen) != 0) {
            close(connection);
            connection = -1;
        }
    }
    freeaddrinfo(found);
    if (connection >= 0)
        setsockopt(connection, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    return connection;
}

/* The value of a header, up to the end of its line, or NULL. */
static const char *header(const char *head, const char *name) {
    size_t length = strlen(name);
    for (const char *line = strstr(head, "\r\n"); line && line[2] != '\r'; line = strstr(line + 2, "\r\n")) {
        if (strncasecmp(line + 2, name, length) == 0 && line[2 + length] == ':')
            return line + 3 + length + strspn(line + 3 + length, " ");
    }
    return NULL;
}

/* Sends the request and reads one reply; 0 when the connection is of no more use. */
static int exchange(int connection, const char *request, struct reply *reply) {
    size_t sent = 0, size = strlen(request), got = 0, wanted = REPLY_BYTES_MAX;
    const char *value;
    while (sent < size) {
        ssize_t n = send(connection, request + sent, size - sent, MSG_NOSIGNAL);
        if (n <= 0)
            return 0;
        sent += (size_t)n;
    }
    reply->body = NULL;
    while (!reply->body || got < wanted) {
        ssize_t n = got < REPLY_BYTES_MAX ? recv(connection, reply->data + got, REPLY_BYTES_MAX - got, 0) : 0;
        if (n <= 0)
            return 0;
        got += (size_t)n;
        reply->data[got] = 0;
        if (!reply->body && (reply->body = strstr(reply->data, "\r\n\r\n"))) {
            reply->body[2] = 0;
            reply->body += 4;
            if (sscanf(reply->data, "HTTP/1.1 %d", &reply->status) != 1)
                return 0;
            /* A 304 names the length of the body that it leaves out. */
            value = reply->status == 304 ? NULL : header(reply->data, "content-length");
            wanted = (size_t)(reply->body - reply->data) + (value ? strtoul(value, NULL, 10) : 0);
            if (wanted > REPLY_BYTES_MAX)
                return 0;
            value = header(reply->data, "etag");
            snprintf(reply->etag, sizeof reply->etag, "%.*s", value ? (int)strcspn(value, "\r") : 0, value ? value : "");
        }
    }
    return 1;
}

/* Copies a field of the JSON object without its quotes: enough for numbers, times and messages. */
static const char *field(const char *json, const char *name, char *text) {
    char key[TEXT_BYTES_MAX];
    size_t length = 0;
    snprintf(key, sizeof key, "\"%s\":", name);
    const char *at = strstr(json, key);
    if (!at) {
        fprintf(stderr, "no %s in %s\n", name, json);
        exit(1);
    }
    at += strlen(key);
    at += strspn(at, " ");
    int quoted = *at == '"';
    for (at += quoted; *at && length < TEXT_BYTES_MAX - 1; at++) {
        if (quoted ? *at == '"' : *at == ',' || *at == '}')
            break;
        if (quoted && *at == '\\' && at[1])
            at++;
        text[length++] = *at;
    }
    text[length] = 0;
    return text;
}

int main(int count_of_arguments, char **arguments) {
    static struct reply reply;
    char host[TEXT_BYTES_MAX], request[4 * TEXT_BYTES_MAX], etag[TEXT_BYTES_MAX] = "";
    char text[TEXT_BYTES_MAX], value[TEXT_BYTES_MAX];
    unsigned long long seq = 0;
    int connection = -1;
    char *colon = count_of_arguments == 4 ? strrchr(arguments[1], ':') : NULL;
    if (!colon || strlen(arguments[1]) >= sizeof host || strlen(arguments[2]) >= TEXT_BYTES_MAX) {
        fprintf(stderr, "usage: poll HOST:PORT SYMBOL COUNT\n");
        return 1;
    }
    snprintf(host, sizeof host, "%.*s", (int)(colon - arguments[1]), arguments[1]);
    long count = strtol(arguments[3], NULL, 10);
    while (count > 0) {
        snprintf(request, sizeof request, "GET /v1/predictions/%s?wait_ms=1000 HTTP/1.1\r\nHost: %s\r\n%s%s%s\r\n",
                 arguments[2], arguments[1], *etag ? "If-None-Match: " : "", etag, *etag ? "\r\n" : "");
        if ((connection < 0 && (connection = dial(host, colon + 1)) < 0) || !exchange(connection, request, &reply)) {
            if (connection >= 0)
                close(connection);
            connection = -1;
            pause_for("the server isn't there or closed the connection");
        } else if (reply.status == 200) {
            unsigned long long newest = strtoull(field(reply.body, "seq", text), NULL, 10);
            strcpy(etag, reply.etag);
            if (newest > seq) {
                seq = newest;
                count--;
                printf("%llu %s ", seq, field(reply.body, "value", value));
                printf("%s\n", field(reply.body, "as_of", text));
                fflush(stdout);
            }
        } else if (reply.status == 503) { /* warming, stale, abstained or quarantined: no number to trade on */
            pause_for(field(reply.body, "error", text));
        } else if (reply.status != 304) {
            fprintf(stderr, "%d: %s\n", reply.status, field(reply.body, "error", text));
            return 1;
        }
    }
    return 0;
}
