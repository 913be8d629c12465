/* The same bytes to many sockets, in one call. */
#include <errno.h>
#include <stddef.h>
#include <sys/socket.h>
#include <sys/types.h>

#ifndef MSG_NOSIGNAL
#define MSG_NOSIGNAL 0
#endif

static ptrdiff_t send_once(int fd, const char *data, size_t size) {
    ssize_t taken;
    do
        taken = send(fd, data, size, MSG_DONTWAIT | MSG_NOSIGNAL);
    while (taken < 0 && errno == EINTR);
    if (taken >= 0) return taken;
    return errno == EAGAIN || errno == EWOULDBLOCK || errno == ENOBUFS ? 0 : -1;
}

/* How many sockets did not take all; `taken` has the bytes that each took, -1 for one that is broken. */
static size_t send_to_all(const int *fds, size_t count, const char *data, size_t size, ptrdiff_t *taken) {
    size_t missed = 0;
    for (size_t i = 0; i < count; i++) {
        taken[i] = send_once(fds[i], data, size);
        if (taken[i] < 0 || (size_t)taken[i] < size) missed++;
    }
    return missed;
}
