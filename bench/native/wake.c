/* A thread that wakes up so many times a second and does nothing, as the switch process would: a timer, an epoll set,
 * real-time priority where permitted. Prints the processor time of it in ns, and the number of times. */
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/timerfd.h>
#include <time.h>

static uint64_t now(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

int main(int argc, char **argv)
{
    if (argc != 3)
        return 2;
    uint64_t interval = 1000000000u / strtoul(argv[1], NULL, 10), count = strtoul(argv[2], NULL, 10);
    int set = epoll_create1(0), timer = timerfd_create(CLOCK_MONOTONIC, 0);
    struct epoll_event event = {.events = EPOLLIN};
    struct sched_param priority = {.sched_priority = 1};
    sched_setscheduler(0, SCHED_RR, &priority); /* or not */
    prctl(PR_SET_TIMERSLACK, 1000ul);
    if (set < 0 || timer < 0 || epoll_ctl(set, EPOLL_CTL_ADD, timer, &event) < 0)
        return 1;
    uint64_t due = now(CLOCK_MONOTONIC), before = now(CLOCK_PROCESS_CPUTIME_ID);
    for (uint64_t n = 0; n < count; n++) {
        due += interval;
        struct itimerspec when = {.it_value = {(time_t)(due / 1000000000u), (long)(due % 1000000000u)}};
        timerfd_settime(timer, TFD_TIMER_ABSTIME, &when, NULL);
        epoll_wait(set, &event, 1, -1);
    }
    printf("%llu %llu\n", (unsigned long long)(now(CLOCK_PROCESS_CPUTIME_ID) - before), (unsigned long long)count);
    return 0;
}
