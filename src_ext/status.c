/* status.c: what a function that fails leaves behind, for the thread that called it: a sentence, and errno. */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

#include "internal.h"

static _Thread_local char last_error[512];
static _Thread_local int last_errno;

const char *dk_error(void) { return last_error; }

int dk_errno(void) { return last_errno; }

dk_status dk_fail(dk_status status, const char *format, ...) {
    va_list arguments;
    last_errno = errno;
    va_start(arguments, format);
    vsnprintf(last_error, sizeof last_error, format, arguments);
    va_end(arguments);
    return status;
}
