/* The reference that the benchmarks run beside the product: a C client on libmosquitto.
 *
 *   reference count HOST PORT N SUFFIX FILTER...
 *       subscribes to all filters at once and counts N messages whose topic ends in SUFFIX; prints the seconds, and its
 *       CPU seconds, from just before it subscribes until it has the last of them
 *   reference echo HOST PORT FROM TO
 *       sends every message on FROM back on TO, until it is terminated
 */
#include <mosquitto.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

static long wanted, seen;
static const char *suffix, *answer_topic;
static char **filters;
static int filter_count;
static double began_s, ended_s, began_cpu_s, ended_cpu_s;

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
    began_s = now_s();
    began_cpu_s = cpu_s();
    mosquitto_subscribe_multiple(client, NULL, filter_count, filters, answer_topic == NULL, 0, NULL);
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
    size_t length = strlen(message->topic), tail = strlen(suffix);
    if (length < tail || memcmp(message->topic + length - tail, suffix, tail) != 0)
        return;
    if (++seen == wanted) {
        ended_s = now_s();
        ended_cpu_s = cpu_s();
        mosquitto_disconnect(client);
    }
}

int main(int argc, char **argv)
{
    if (argc < 6)
        return 2;
    if (strcmp(argv[1], "echo") == 0) {
        filters = &argv[4];
        filter_count = 1;
        answer_topic = argv[5];
    } else {
        wanted = atol(argv[4]);
        suffix = argv[5];
        filters = &argv[6];
        filter_count = argc - 6;
    }
    mosquitto_lib_init();
    struct mosquitto *client = mosquitto_new(NULL, true, NULL);
    mosquitto_int_option(client, MOSQ_OPT_TCP_NODELAY, 1);
    mosquitto_int_option(client, MOSQ_OPT_PROTOCOL_VERSION, MQTT_PROTOCOL_V5);
    mosquitto_connect_callback_set(client, on_connect);
    mosquitto_subscribe_callback_set(client, on_subscribe);
    mosquitto_message_callback_set(client, on_message);
    if (mosquitto_connect(client, argv[2], atoi(argv[3]), 60) != MOSQ_ERR_SUCCESS)
        return 1;
    mosquitto_loop_forever(client, -1, 1);
    printf("%.6f %.6f\n", ended_s - began_s, ended_cpu_s - began_cpu_s);
    return seen == wanted || answer_topic != NULL ? 0 : 1;
}
