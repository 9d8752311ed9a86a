/* A stand-in for pbs-drmaa, as far as execd uses it, that behaves as was measured with a real server: drmaa_init crashes when the
 * server is down, drmaa_run_job then gives an empty id and no error, and all wait for a server that hangs.  A connection that ran
 * into a time-out is out of step: it reads the answer to one question as that to the next.  Its other half is the shell script submit
 * beside the commands; TORQUE_STANDIN is the directory of the server's files. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { SUCCESS = 0, INTERNAL_ERROR = 1, NO_ACTIVE_SESSION = 5, ALREADY_ACTIVE_SESSION = 11, LONGEST = 4096 };

static int active;
static char unread[LONGEST]; /* an answer that came too late, and is taken for that to the next question */

#define NOBODYS "8677.head01"

typedef struct {
    char name[LONGEST], command[LONGEST], directory[LONGEST], native[LONGEST];
} drmaa_job_template_t;

static int fail(int code, const char *message, char *error, size_t length)
{
    snprintf(error, length, "%s", message);
    return code;
}

static int there_is(const char *name)
{
    char path[LONGEST];
    snprintf(path, sizeof path, "%s/%s", getenv("TORQUE_STANDIN"), name);
    return access(path, F_OK) == 0;
}

/* What the mark of this name says, which counts once; whether there was one. */
static int once(const char *name, char *says, size_t size)
{
    char path[LONGEST];
    FILE *file;
    snprintf(path, sizeof path, "%s/%s", getenv("TORQUE_STANDIN"), name);
    if (!(file = fopen(path, "r")))
        return 0;
    if (!fgets(says, size, file))
        says[0] = '\0';
    fclose(file);
    return unlink(path) == 0;
}

static int server_is_down(void)
{
    while (there_is("hung"))
        usleep(20000);
    return there_is("down");
}

int drmaa_init(const char *contact, char *error, size_t length)
{
    if (active)
        return fail(ALREADY_ACTIVE_SESSION, "Initialization failed due to existing DRMAA session.", error, length);
    if (server_is_down())
        abort();
    active = 1;
    return SUCCESS;
}

int drmaa_exit(char *error, size_t length)
{
    if (!active)
        return fail(NO_ACTIVE_SESSION, "No active session", error, length);
    active = 0;
    return SUCCESS;
}

int drmaa_get_DRM_system(char *name, size_t size, char *error, size_t length)
{
    snprintf(name, size, "Torque");
    return SUCCESS;
}

int drmaa_allocate_job_template(drmaa_job_template_t **template, char *error, size_t length)
{
    *template = calloc(1, sizeof **template);
    return *template ? SUCCESS : fail(INTERNAL_ERROR, "no memory", error, length);
}

int drmaa_set_attribute(drmaa_job_template_t *template, const char *name, const char *value, char *error, size_t length)
{
    if (!strcmp(name, "drmaa_job_name"))
        snprintf(template->name, LONGEST, "%s", value);
    else if (!strcmp(name, "drmaa_remote_command"))
        snprintf(template->command, LONGEST, "%s", value);
    else if (!strcmp(name, "drmaa_wd"))
        snprintf(template->directory, LONGEST, "%s", value);
    else if (!strcmp(name, "drmaa_native_specification"))
        snprintf(template->native, LONGEST, "%s", value);
    else if (strcmp(name, "drmaa_output_path") && strcmp(name, "drmaa_join_files"))
        return fail(INTERNAL_ERROR, "the stand-in has no such attribute", error, length);
    return SUCCESS;
}

/* The first line that the script `submit` prints. */
static void submit(const drmaa_job_template_t *template, char *line, size_t size)
{
    FILE *answer;
    setenv("STANDIN_NAME", template->name, 1);
    setenv("STANDIN_COMMAND", template->command, 1);
    setenv("STANDIN_DIRECTORY", template->directory, 1);
    setenv("STANDIN_NATIVE", template->native, 1);
    answer = popen("setsid -w \"$TORQUE_STANDIN/bin/submit\"", "r"); /* a server outlives its client, and a kill of its group */
    if (!answer || !fgets(line, size, answer))
        line[0] = '\0';
    line[strcspn(line, "\n")] = '\0';
    if (answer)
        pclose(answer);
}

int drmaa_run_job(char *id, size_t size, const drmaa_job_template_t *template, char *error, size_t length)
{
    char line[LONGEST], says[LONGEST], *message;
    if (!active)
        return fail(NO_ACTIVE_SESSION, "No active session", error, length);
    id[0] = '\0';
    if (server_is_down())
        return SUCCESS;
    if (once("lost", says, sizeof says)) { /* the server has none of it, and answers what it was asked long ago */
        strcpy(unread, NOBODYS);
        return fail(INTERNAL_ERROR, "This stream has already been closed. End of File.", error, length);
    }
    if (!strcmp(unread, NOBODYS) || once("lie", says, sizeof says)) {
        unread[0] = '\0';
        snprintf(id, size, NOBODYS);
        return SUCCESS;
    }
    submit(template, line, sizeof line);
    if (once("late", says, sizeof says)) {
        strcpy(unread, line);
        return fail(INTERNAL_ERROR, "Time out", error, length);
    }
    if (unread[0]) {
        snprintf(id, size, "%s", unread);
        strcpy(unread, line);
        return SUCCESS;
    }
    if ((message = strchr(line, ' ')))
        return fail(atoi(line), message + 1, error, length);
    if (!there_is("mute"))
        snprintf(id, size, "%s", line);
    return SUCCESS;
}

/* What python-drmaa looks for in the library, and execd does not use. */
#define UNUSED(name) int name(void) { return INTERNAL_ERROR; }
UNUSED(drmaa_control)
UNUSED(drmaa_delete_job_template)
UNUSED(drmaa_get_DRMAA_implementation)
UNUSED(drmaa_get_attribute)
UNUSED(drmaa_get_attribute_names)
UNUSED(drmaa_get_contact)
UNUSED(drmaa_get_next_attr_name)
UNUSED(drmaa_get_next_attr_value)
UNUSED(drmaa_get_next_job_id)
UNUSED(drmaa_get_num_attr_names)
UNUSED(drmaa_get_num_attr_values)
UNUSED(drmaa_get_vector_attribute)
UNUSED(drmaa_get_vector_attribute_names)
UNUSED(drmaa_job_ps)
UNUSED(drmaa_release_attr_names)
UNUSED(drmaa_release_attr_values)
UNUSED(drmaa_release_job_ids)
UNUSED(drmaa_run_bulk_jobs)
UNUSED(drmaa_set_vector_attribute)
UNUSED(drmaa_strerror)
UNUSED(drmaa_synchronize)
UNUSED(drmaa_version)
UNUSED(drmaa_wait)
UNUSED(drmaa_wcoredump)
UNUSED(drmaa_wexitstatus)
UNUSED(drmaa_wifaborted)
UNUSED(drmaa_wifexited)
UNUSED(drmaa_wifsignaled)
UNUSED(drmaa_wtermsig)
