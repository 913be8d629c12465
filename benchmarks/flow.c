/* How publications are begun: by a window, by a rate, by what comes back. */

#define _GNU_SOURCE
#include "load.h"

#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <unistd.h>

static bool flow_window(uint64_t end) {
    while (now() < end && published < limit) {
        while (published - completed < options.window && published < limit) publish(&clients[0], now());
        client_flush(&clients[0]);
        if (!turn(100)) return false;
    }
    return true;
}

bool flow_rate(uint64_t end, bool (*offer)(void)) {
    struct epoll_event event = {.events = EPOLLIN | EPOLLET, .data.ptr = NULL};
    uint64_t step = (uint64_t)(1e9 / options.rate), due = now() + step;
    int timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    bool well = timer >= 0 && epoll_ctl(target.epoll, EPOLL_CTL_ADD, timer, &event) == 0;
    while (well && due < end && published < limit && published - completed < RING) {
        struct itimerspec when = {.it_value = {(time_t)(due / SECOND), (long)(due % SECOND)}};
        timerfd_settime(timer, TFD_TIMER_ABSTIME, &when, NULL);
        if (offer != NULL && offer()) break;
        well = turn(offer == NULL ? 100 : 1);
        for (; due <= now() && published < limit && published - completed < RING; due += step)
            /* A latency counts from when the message should have left, or a stall would hide itself. */
            publish(&clients[0], due);
        client_flush(&clients[0]);
    }
    if (timer >= 0) close(timer);
    return well;
}

static bool flow_echo(uint64_t end) {
    publishing = true;
    for (uint32_t i = 0; i < options.connections; i++) {
        for (uint32_t sent = 0; sent < options.window && published < limit; sent++) publish(&clients[i], now());
        client_flush(&clients[i]);
    }
    while (now() < end && completed < limit)
        if (!turn(10)) return false;
    return true;
}

bool flow(double seconds, uint64_t count) {
    uint64_t end = now() + (uint64_t)(seconds * 1e9);
    limit = count > UINT64_MAX - published ? UINT64_MAX : published + count;
    bool well = options.scenario == FANOUT ? flow_window(end)
                : options.scenario == RATE ? flow_rate(end, NULL)
                                           : flow_echo(end);
    return well && drain();
}
