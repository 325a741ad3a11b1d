/* How much machine code an object file holds, and which functions hold most of it: ELF,
 * of 32 or 64 bits, little-endian as all targets are. */
#include "runtime.h"

#include <elf.h>
#include <stdlib.h>
#include <string.h>

typedef struct CodePart { const char *name; int64_t bytes; } CodePart;

typedef struct Object {
    Context *c;
    const unsigned char *data;
    size_t length;
    bool wide;                    /* 64 bits */
} Object;

/* A table of the file, or NULL where it reaches beyond the end. */
static const void *table(const Object *o, uint64_t offset, uint64_t bytes)
{
    return offset <= o->length && bytes <= o->length - offset ? o->data + offset : NULL;
}

/* Section headers in one form. */
static Elf64_Shdr *sections(const Object *o, int *count)
{
    Elf64_Ehdr head = {0};
    Elf32_Ehdr narrow;
    memcpy(&head, o->data, o->wide ? sizeof head : 0);
    if (!o->wide) {
        memcpy(&narrow, o->data, sizeof narrow);
        head.e_shoff = narrow.e_shoff;
        head.e_shnum = narrow.e_shnum;
    }
    size_t size = o->wide ? sizeof(Elf64_Shdr) : sizeof(Elf32_Shdr);
    const char *from = table(o, head.e_shoff, head.e_shnum * size);
    Elf64_Shdr *list = NEW_ARRAY(o->c, Elf64_Shdr, head.e_shnum + 1);
    *count = from ? head.e_shnum : 0;
    for (int i = 0; i < *count; i++)
        if (o->wide) {
            memcpy(&list[i], from + (size_t)i * size, size);
        } else {
            Elf32_Shdr s;
            memcpy(&s, from + (size_t)i * size, size);
            list[i] = (Elf64_Shdr){.sh_type = s.sh_type, .sh_flags = s.sh_flags, .sh_link = s.sh_link,
                                   .sh_offset = s.sh_offset, .sh_size = s.sh_size};
        }
    return list;
}

static void add_functions(const Object *o, const Elf64_Shdr *symbols, const Elf64_Shdr *names,
                          CodePart **part, int *parts)
{
    size_t size = o->wide ? sizeof(Elf64_Sym) : sizeof(Elf32_Sym);
    const char *from = table(o, symbols->sh_offset, symbols->sh_size);
    const char *text = table(o, names->sh_offset, names->sh_size);
    for (size_t at = 0; from && text && at + size <= symbols->sh_size; at += size) {
        Elf64_Sym wide = {0};
        Elf32_Sym narrow;
        memcpy(&wide, from + at, o->wide ? size : 0);
        if (!o->wide) {
            memcpy(&narrow, from + at, size);
            wide.st_name = narrow.st_name;
            wide.st_info = narrow.st_info;
            wide.st_size = narrow.st_size;
        }
        if (ELF64_ST_TYPE(wide.st_info) == STT_FUNC && wide.st_name < names->sh_size)
            PUSH(o->c, *part, *parts) = (CodePart){text + wide.st_name, (int64_t)wide.st_size};
    }
}

static int by_bytes(const void *a, const void *b)
{
    const CodePart *x = a, *y = b;
    return x->bytes != y->bytes ? (x->bytes > y->bytes ? -1 : 1) : strcmp(x->name, y->name);
}

int64_t code_bytes(Context *c, const char *path, const char **largest)
{
    enum { NAMED = 3 };
    Object o = {.c = c};
    o.data = file_read(c, path, &o.length);
    o.wide = o.length > EI_CLASS && o.data[EI_CLASS] == ELFCLASS64;
    if (o.length < (o.wide ? sizeof(Elf64_Ehdr) : sizeof(Elf32_Ehdr)) || memcmp(o.data, ELFMAG, SELFMAG) ||
        o.data[EI_DATA] != ELFDATA2LSB)
        fail(c, STATUS_INPUT, "%s: cannot tell the code's size: expected a little-endian ELF object", path);
    int count, parts = 0;
    const Elf64_Shdr *section = sections(&o, &count);
    CodePart *part = NULL;
    int64_t bytes = 0;
    for (int i = 0; i < count; i++) {
        if (section[i].sh_flags & SHF_EXECINSTR)
            bytes += (int64_t)section[i].sh_size;
        if (section[i].sh_type == SHT_SYMTAB && section[i].sh_link < (unsigned)count)
            add_functions(&o, &section[i], &section[section[i].sh_link], &part, &parts);
    }
    if (parts)
        qsort(part, (size_t)parts, sizeof *part, by_bytes);
    Text t = {.c = c};
    for (int i = 0; i < parts && i < NAMED; i++)
        text_add(&t, "%s%.100s %lld", i ? ", " : "", part[i].name, (long long)part[i].bytes);
    *largest = parts ? t.data : "-";
    return bytes;
}
