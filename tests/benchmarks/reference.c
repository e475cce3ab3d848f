/* The reference that the benchmarks run beside the product: a C client on libmosquitto.
 *
 *   reference count HOST PORT FILTER N   counts N messages; prints: seconds from the first to the last, CPU seconds
 *   reference echo HOST PORT FROM TO     sends every message on FROM back on TO, until it is terminated
 */
#include <mosquitto.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

static long wanted, seen;
static const char *filter, *answer_topic;
static double first_s, last_s;

static double now_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static double cpu_s(void)
{
    struct rusage use;
    getrusage(RUSAGE_SELF, &use);
    return (double)(use.ru_utime.tv_sec + use.ru_stime.tv_sec)
        + (double)(use.ru_utime.tv_usec + use.ru_stime.tv_usec) * 1e-6;
}

static void on_connect(struct mosquitto *client, void *data, int result)
{
    (void)data;
    if (result != 0) {
        fprintf(stderr, "refused: %d\n", result);
        exit(1);
    }
    mosquitto_subscribe(client, NULL, filter, 0);
}

static void on_subscribe(struct mosquitto *client, void *data, int id, int count, const int *granted)
{
    (void)client, (void)data, (void)id, (void)count, (void)granted;
    puts("subscribed");
    fflush(stdout);
}

static void on_message(struct mosquitto *client, void *data, const struct mosquitto_message *message)
{
    (void)data;
    if (answer_topic != NULL) {
        mosquitto_publish(client, NULL, answer_topic, message->payloadlen, message->payload, 0, false);
        return;
    }
    if (seen++ == 0)
        first_s = now_s();
    if (seen == wanted) {
        last_s = now_s();
        mosquitto_disconnect(client);
    }
}

int main(int argc, char **argv)
{
    if (argc != 6)
        return 2;
    filter = argv[4];
    if (strcmp(argv[1], "echo") == 0)
        answer_topic = argv[5];
    else
        wanted = atol(argv[5]);
    mosquitto_lib_init();
    struct mosquitto *client = mosquitto_new(NULL, true, NULL);
    mosquitto_int_option(client, MOSQ_OPT_TCP_NODELAY, 1);
    mosquitto_connect_callback_set(client, on_connect);
    mosquitto_subscribe_callback_set(client, on_subscribe);
    mosquitto_message_callback_set(client, on_message);
    if (mosquitto_connect(client, argv[2], atoi(argv[3]), 60) != MOSQ_ERR_SUCCESS)
        return 1;
    mosquitto_loop_forever(client, -1, 1);
    printf("%.6f %.6f\n", last_s - first_s, cpu_s());
    return seen == wanted || answer_topic != NULL ? 0 : 1;
}
