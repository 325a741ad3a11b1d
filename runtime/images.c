/* A folder of pictures, one folder a class: names sorted by their bytes, so that
 * class numbers are the same everywhere. */
#include "runtime.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

typedef struct Listing {
    Context *c;
    const char *folder;
    DIR *open;
    const char **path;  int paths;
} Listing;

static void list(void *argument)
{
    Listing *l = argument;
    for (;;) {
        errno = 0;
        struct dirent *entry = readdir(l->open);
        if (!entry && errno)
            fail(l->c, STATUS_INPUT, "%s: cannot read: %s", l->folder, strerror(errno));
        if (!entry)
            return;
        if (entry->d_name[0] != '.')
            PUSH(l->c, l->path, l->paths) = format(l->c, "%s/%s", l->folder, entry->d_name);
    }
}

static void list_close(void *argument)
{
    closedir(((Listing *)argument)->open);
}

static int by_bytes(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* Paths of everything in a folder but hidden files, sorted. */
static Listing list_folder(Context *c, const char *folder)
{
    Listing l = {.c = c, .folder = folder, .open = opendir(folder)};
    if (!l.open)
        fail(c, STATUS_INPUT, "%s: cannot open: %s", folder, strerror(errno));
    guard(c, list, list_close, &l);
    if (l.paths)
        qsort(l.path, (size_t)l.paths, sizeof *l.path, by_bytes);
    return l;
}

static bool is_folder(const char *path)
{
    struct stat info;
    return stat(path, &info) == 0 && S_ISDIR(info.st_mode);
}

typedef struct Reading {
    Context *c;
    const char *folder;
    Dataset *set;
    const char **path;                 /* of all pictures */
    int32_t *label;
    int paths;
} Reading;

/* Fills path and label.  What lies beside the class folders belongs to no class. */
static void find_pictures(Context *work, Reading *r)
{
    Listing folders = list_folder(work, r->folder);
    int classes = 0;
    for (int f = 0; f < folders.paths; f++) {
        if (!is_folder(folders.path[f]))
            continue;
        Listing l = list_folder(work, folders.path[f]);
        if (l.paths == 0)
            fail(work, STATUS_INPUT, "%s: found no pictures, expected those of a class", folders.path[f]);
        for (int i = 0; i < l.paths; i++) {
            int n = r->paths;
            PUSH(work, r->label, n) = classes;
            PUSH(work, r->path, r->paths) = l.path[i];
        }
        classes++;
    }
    if (classes == 0)
        fail(work, STATUS_INPUT, "%s: found no folders, expected one for each class", r->folder);
}

/* The first picture sets the size, and whether there is colour. */
static Shape read_first(Context *work, const Reading *r)
{
    Picture p = picture_decode(work, r->path[0], 0, 0);
    return shape_of(3, (int[]){p.channels, p.height, p.width});
}

typedef struct One { Reading *r; int index; } One;

static void read_one(Context *work, void *argument)
{
    One *one = argument;
    const char *path = one->r->path[one->index];
    Dataset *d = one->r->set;
    Picture p = picture_decode(work, path, d->sample.dim[1], d->sample.dim[2]);
    if (p.channels > d->sample.dim[0])
        fail(work, STATUS_INPUT, "%s: found a coloured picture, expected a grey one like %s",
             path, one->r->path[0]);
    size_t floats = (size_t)shape_count(&d->sample);
    picture_planes(&p, d->sample.dim[0], d->value + (size_t)one->index * floats);
}

static void read_all(Context *work, void *argument)
{
    Reading *r = argument;
    find_pictures(work, r);
    r->set = dataset_new(r->c, r->folder, r->paths, read_first(work, r), true);
    for (int i = 0; i < r->paths; i++)
        scratch(work, read_one, &(One){r, i});         /* a picture's bytes do not wait for the last one */
    memcpy(r->set->label, r->label, (size_t)r->paths * sizeof *r->label);
    dataset_count_classes(r->set);
}

Dataset *data_images(Context *c, const char *folder)
{
    Reading r = {.c = c, .folder = folder};
    scratch(c, read_all, &r);
    return r.set;
}
