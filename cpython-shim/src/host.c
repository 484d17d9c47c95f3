/* Conflict reports in terms of Python: the line that a thread executes, and the object at an address.
 *
 * The runtime asks in the middle of barriers, also of transactions that are doomed. So all this is plain code
 * that only reads, and believes nothing: what it looks at may be written by other threads meanwhile,
 * or have been freed. (Heap memory can be read then, too.) It calls no function of CPython, because those have
 * barriers. What is not certain has no name.
 */
#include "shim.h"
#include "pycore_code.h"
#include "pycore_dict.h"
#include "pycore_frame.h"
#include "pycore_moduleobject.h"
#include "pycore_typeobject.h"
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* From the runtime (runtime/include/ame_rt.h). */
uint32_t ame_host_site(const char *file, const char *function, uint32_t line, uint32_t caller);
uint32_t ame_host_object(const char *type, const char *part, const char *advice);
int ame_host_readable(const void *address, size_t n);
void ame_host_waited(uint32_t object, uint64_t since);

/* --- text -------------------------------------------------------------------------------------- */

struct text {
    char bytes[200];
    size_t n;
};

static void
put(struct text *to, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    int n = vsnprintf(to->bytes + to->n, sizeof to->bytes - to->n, format, arguments);
    va_end(arguments);
    if (n > 0) {
        to->n += n;
        if (to->n >= sizeof to->bytes) {
            to->n = sizeof to->bytes - 1;
        }
    }
}

/* UTF-8. A character that does not fit whole is left out, and all after it. */
static int
put_character(struct text *to, uint32_t c)
{
    char bytes[4];
    int n = 0;
    if (c < 0x80) {
        bytes[n++] = c;
    }
    else if (c < 0x800) {
        bytes[n++] = 0xc0 | c >> 6;
    }
    else if (c < 0x10000) {
        bytes[n++] = 0xe0 | c >> 12;
    }
    else {
        bytes[n++] = 0xf0 | (c >> 18 & 7);
    }
    for (int shift = c < 0x80 ? -1 : c < 0x800 ? 0 : c < 0x10000 ? 6 : 12; shift >= 0; shift -= 6) {
        bytes[n++] = 0x80 | (c >> shift & 0x3f);
    }
    if (to->n + n >= sizeof to->bytes) {
        return 0;
    }
    memcpy(to->bytes + to->n, bytes, n);
    to->n += n;
    to->bytes[to->n] = 0;
    return 1;
}

/* --- objects ----------------------------------------------------------------------------------- */

extern char __executable_start, end;

static int
readable(const void *address, size_t n)
{
    const char *p = address;
    if (p >= &__executable_start && p + n <= &end) {
        return 1;
    }
    return ame_host_readable(p, n);
}

/* A name in C, of which only the start may be there. */
static void
put_name(struct text *to, const char *name)
{
    for (int i = 0; i < 100; i++) {
        if ((i == 0 || (uintptr_t)(name + i) % 4096 == 0) && !readable(name + i, 1)) {
            put(to, "?");
            return;
        }
        if (name[i] == 0) {
            return;
        }
        put(to, "%c", name[i]);
    }
}

/* Whether it looks like a type, or is one. */
static int
is_type(PyTypeObject *type)
{
    return (uintptr_t)type % 8 == 0 && readable(type, sizeof *type) && readable(Py_TYPE(type), sizeof *type) &&
           (Py_TYPE(type)->tp_flags & Py_TPFLAGS_TYPE_SUBCLASS) != 0 &&
           (type->tp_flags & Py_TPFLAGS_READY) != 0 &&
           type->tp_basicsize >= (Py_ssize_t)sizeof(PyObject) && type->tp_name != NULL;
}

/* Whether it looks like an object: a count that is no pointer, and a type. */
static int
is_object(PyObject *op)
{
    return op != NULL && (uintptr_t)op % 8 == 0 && readable(op, sizeof *op) &&
           (uint64_t)op->ob_refcnt <= UINT32_MAX && is_type(Py_TYPE(op));
}

static int
has_type(PyObject *op, PyTypeObject *type)
{
    return op != NULL && (uintptr_t)op % 8 == 0 && readable(op, sizeof *op) && Py_TYPE(op) == type;
}

static int
has_flag(PyObject *op, unsigned long flag)
{
    return (Py_TYPE(op)->tp_flags & flag) != 0;
}

static void
put_string(struct text *to, PyObject *op)
{
    if (!has_type(op, &PyUnicode_Type) || !readable(op, sizeof(PyCompactUnicodeObject))) {
        put(to, "?");
        return;
    }
    PyASCIIObject *string = (PyASCIIObject *)op;
    int kind = string->state.kind;
    if (!string->state.compact || (kind != 1 && kind != 2 && kind != 4) || string->length < 0) {
        put(to, "?");
        return;
    }
    const char *data = (const char *)(string->state.ascii ? (void *)(string + 1)
                                                          : (void *)((PyCompactUnicodeObject *)op + 1));
    size_t n = string->length;
    if (n > sizeof to->bytes) {
        n = sizeof to->bytes;
    }
    if (!readable(data, n * kind)) {
        put(to, "?");
        return;
    }
    for (size_t i = 0; i < n; i++) {
        uint32_t c = kind == 1   ? ((const uint8_t *)data)[i]
                     : kind == 2 ? ((const uint16_t *)data)[i]
                                 : ((const uint32_t *)data)[i];
        if (!put_character(to, c < ' ' ? '?' : c)) {
            return;
        }
    }
}

static void
put_key(struct text *to, PyObject *key)
{
    if (has_type(key, &PyUnicode_Type)) {
        put(to, "'");
        put_string(to, key);
        put(to, "'");
    }
    else if (has_type(key, &PyLong_Type) && readable(key, sizeof(PyLongObject)) &&
             _PyLong_IsCompact((PyLongObject *)key)) {
        put(to, "%zd", _PyLong_CompactValue((PyLongObject *)key));
    }
    else if (is_object(key)) {
        put(to, "(");
        put_name(to, Py_TYPE(key)->tp_name);
        put(to, ")");
    }
    else {
        put(to, "?");
    }
}

/* --- where ------------------------------------------------------------------------------------- */

static PyCodeObject *
code_of(_PyInterpreterFrame *frame)
{
    PyObject *executable = frame->f_executable;
    return frame->owner != FRAME_OWNED_BY_CSTACK && has_type(executable, &PyCode_Type)
               ? (PyCodeObject *)executable
               : NULL;
}

/* The innermost frame from this one on that has a line; NULL: none. */
static _PyInterpreterFrame *
with_line(_PyInterpreterFrame *frame)
{
    for (int i = 0; frame != NULL && i < 100; i++, frame = frame->previous) {
        PyCodeObject *code = code_of(frame);
        if (code != NULL) {
            ptrdiff_t at = frame->instr_ptr - _PyCode_CODE(code);
            if (at >= 0 && at < Py_SIZE(code)) {
                return frame;
            }
        }
    }
    return NULL;
}

static int
index_of(_PyInterpreterFrame *frame, PyCodeObject *code)
{
    return (int)(frame->instr_ptr - _PyCode_CODE(code));
}

/* Numbers in six bits a byte, the least first; bit 6: more follow. */
static const uint8_t *
variable_length(const uint8_t *p, const uint8_t *limit, unsigned *value)
{
    *value = 0;
    for (unsigned shift = 0; p < limit && shift < 32; shift += 6) {
        *value |= (unsigned)(*p & 63) << shift;
        if ((*p++ & 64) == 0) {
            break;
        }
    }
    return p;
}

/* The line of the instruction, from the code's location table (InternalDocs/code_objects.md of CPython). */
static uint32_t
line_of(PyCodeObject *code, int index)
{
    PyObject *table = code->co_linetable;
    if (!has_type(table, &PyBytes_Type)) {
        return code->co_firstlineno;
    }
    const uint8_t *p = (const uint8_t *)((PyBytesObject *)table)->ob_sval, *limit = p + Py_SIZE(table);
    int line = code->co_firstlineno, from = 0;
    while (p < limit) {
        int kind = *p >> 3 & 15, here = line, none = kind == 15;
        from += (*p & 7) + 1;
        unsigned value;
        if (kind == 13 || kind == 14) {
            variable_length(p + 1, limit, &value);
            line += value & 1 ? -(int)(value >> 1) : (int)(value >> 1);
        }
        else if (kind >= 10 && kind <= 12) {
            line += kind - 10;
        }
        if (index < from) {
            return none ? here : line;
        }
        /* Only the first byte of an entry has bit 7. */
        do {
            p++;
        } while (p < limit && (*p & 128) == 0);
    }
    return line;
}

/* Places of a thread that were asked for last. A code object at the address of an earlier one has another
 * version. */
struct place {
    PyCodeObject *code;
    uint64_t where;
    uint32_t caller, number;
};
static _Thread_local struct place places[256];

/* Whether code is part of a library: a file of the standard library, or what is installed with it. */
struct origin {
    PyCodeObject *code;
    uint32_t version;
    int library;
};
static _Thread_local struct origin origins[64];

static int
in_library(struct ame_py_thread *self, PyCodeObject *code)
{
    struct origin *origin = &origins[((uintptr_t)code >> 5) % 64];
    if (origin->code == code && origin->version == code->co_version) {
        return origin->library;
    }
    struct text file = {.n = 0};
    put_string(&file, code->co_filename);
    const wchar_t *folder = self->tstate->interp->config.stdlib_dir;
    int library = strncmp(file.bytes, "<frozen ", 8) == 0;
    if (!library && folder != NULL && folder[0] != 0) {
        size_t i = 0;
        while (folder[i] != 0 && folder[i] == (wchar_t)(unsigned char)file.bytes[i]) {
            i++;
        }
        library = folder[i] == 0 && file.bytes[i] == '/';
    }
    *origin = (struct origin){code, code->co_version, library};
    return library;
}

static uint32_t
site_of(_PyInterpreterFrame *frame, uint32_t caller)
{
    PyCodeObject *code = code_of(frame);
    int index = index_of(frame, code);
    uint64_t where = (uint64_t)code->co_version << 32 | (uint32_t)index;
    struct place *place = &places[((uintptr_t)code >> 5 ^ (unsigned)index ^ caller) % 256];
    if (place->code == code && place->where == where && place->caller == caller &&
        place->number != 0) {
        return place->number;
    }
    struct text file = {.n = 0}, function = {.n = 0};
    put_string(&file, code->co_filename);
    put_string(&function, code->co_qualname);
    uint32_t number = ame_host_site(file.bytes, function.bytes, line_of(code, index), caller);
    *place = (struct place){code, where, caller, number};
    return number;
}

static _PyInterpreterFrame *
innermost(void)
{
    struct ame_py_thread *self = ame_py_self;
    if (self == NULL || self->tstate == NULL) {
        return NULL;
    }
    return with_line(self->tstate->current_frame);
}

static uint32_t
where(void)
{
    _PyInterpreterFrame *frame = innermost();
    if (frame == NULL) {
        return 0;
    }
    struct ame_py_thread *self = ame_py_self;
    _PyInterpreterFrame *own = frame;
    for (int i = 0; own != NULL && i < 20 && in_library(self, code_of(own)); i++) {
        own = with_line(own->previous);
    }
    if (own == NULL || own == frame || in_library(self, code_of(own))) {
        return site_of(frame, 0);
    }
    return site_of(frame, site_of(own, 0));
}

/* --- what: names ------------------------------------------------------------------------------- */

static int
is_keys(PyDictKeysObject *keys, size_t bytes)
{
    if (bytes < sizeof *keys + 8 || keys->dk_log2_size > 40 || keys->dk_log2_index_bytes > 44 ||
        keys->dk_log2_index_bytes < keys->dk_log2_size || keys->dk_log2_index_bytes < 3 ||
        keys->dk_kind > DICT_KEYS_SPLIT || keys->dk_nentries < 0 || keys->dk_usable < 0) {
        return 0;
    }
    size_t entry = keys->dk_kind == DICT_KEYS_GENERAL ? sizeof(PyDictKeyEntry)
                                                      : sizeof(PyDictUnicodeEntry);
    size_t indices = (size_t)1 << keys->dk_log2_index_bytes;
    return keys->dk_refcnt > 0 && keys->dk_refcnt < INT32_MAX &&
           keys->dk_nentries + keys->dk_usable <= (Py_ssize_t)1 << keys->dk_log2_size &&
           sizeof *keys + indices + keys->dk_nentries * entry <= bytes;
}

/* Entry of a table of keys, with the key and value there. */
static int
entry_of(PyDictKeysObject *keys, Py_ssize_t i, PyObject **key, PyObject **value)
{
    if (i < 0 || i >= keys->dk_nentries) {
        return 0;
    }
    if (keys->dk_kind == DICT_KEYS_GENERAL) {
        PyDictKeyEntry *entry = (PyDictKeyEntry *)_DK_ENTRIES(keys) + i;
        *key = entry->me_key;
        *value = entry->me_value;
    }
    else {
        PyDictUnicodeEntry *entry = (PyDictUnicodeEntry *)_DK_ENTRIES(keys) + i;
        *key = entry->me_key;
        *value = entry->me_value;
    }
    return *key != NULL;
}

static PyDictKeysObject *
keys_of(PyObject *dict)
{
    if (!is_object(dict) || !has_flag(dict, Py_TPFLAGS_DICT_SUBCLASS) ||
        !readable(dict, sizeof(PyDictObject))) {
        return NULL;
    }
    PyDictKeysObject *keys = ((PyDictObject *)dict)->ma_keys;
    return readable(keys, sizeof *keys) && is_keys(keys, SIZE_MAX) ? keys : NULL;
}

/* Whether it is that dict, or has that block for its contents. */
static int
is_dict_with(PyObject *dict, const void *block)
{
    return keys_of(dict) != NULL && ((void *)dict == block || (void *)((PyDictObject *)dict)->ma_keys == block ||
                                     (void *)((PyDictObject *)dict)->ma_values == block);
}

/* The dict that has the attributes of an object, if that is a module, a class, or an instance with one. */
static PyObject *
namespace_of(PyObject *op)
{
    if (Py_TYPE(op) == &PyModule_Type && readable(op, sizeof(PyModuleObject))) {
        return ((PyModuleObject *)op)->md_dict;
    }
    if (has_flag(op, Py_TPFLAGS_TYPE_SUBCLASS) && readable(op, sizeof(PyTypeObject))) {
        return ((PyTypeObject *)op)->tp_dict;
    }
    return has_flag(op, Py_TPFLAGS_MANAGED_DICT) ? (PyObject *)_PyObject_GetManagedDict(op) : NULL;
}

/* Whether the object has this block, or the dict that is there, outside of itself. */
static int
owns(PyObject *op, const void *block)
{
    PyObject *namespace = namespace_of(op);
    if (namespace != NULL && is_dict_with(namespace, block)) {
        return 1;
    }
    if (has_flag(op, Py_TPFLAGS_DICT_SUBCLASS)) {
        return (void *)op != block && is_dict_with(op, block);
    }
    if (has_flag(op, Py_TPFLAGS_LIST_SUBCLASS)) {
        return (void *)((PyListObject *)op)->ob_item == block;
    }
    PyTypeObject *type = Py_TYPE(op);
    if (type == &PySet_Type || type == &PyFrozenSet_Type) {
        return (void *)((PySetObject *)op)->table == block;
    }
    if (type == &PyByteArray_Type) {
        return (void *)((PyByteArrayObject *)op)->ob_alloc == block;
    }
    return 0;
}

static int
is_it(PyObject *op, const void *target, int owner)
{
    return op == target || (owner && is_object(op) && owns(op, target));
}

/* Attribute values that an instance keeps inside itself. */
static PyDictValues *
inline_values(PyObject *op, PyDictKeysObject **keys)
{
    PyTypeObject *type = Py_TYPE(op);
    if (!has_flag(op, Py_TPFLAGS_INLINE_VALUES) || !has_flag(op, Py_TPFLAGS_HEAPTYPE)) {
        return NULL;
    }
    *keys = ((PyHeapTypeObject *)type)->ht_cached_keys;
    PyDictValues *values = (PyDictValues *)((char *)op + type->tp_basicsize);
    if (*keys == NULL || !readable(*keys, sizeof **keys) || !is_keys(*keys, SIZE_MAX) ||
        !readable(values, sizeof *values) || !values->valid) {
        return NULL;
    }
    return values;
}

static PyObject *
find_in_instance(PyObject *op, const void *target, int owner, struct text *name)
{
    PyDictKeysObject *keys;
    PyObject *key, *unused;
    PyDictValues *values = inline_values(op, &keys);
    for (int i = 0; values != NULL && i < values->capacity && i < keys->dk_nentries; i++) {
        PyObject *value = values->values[i];
        if (value != NULL && is_it(value, target, owner) && entry_of(keys, i, &key, &unused)) {
            put(name, ".");
            put_string(name, key);
            return value;
        }
    }
    return NULL;
}

/* Most entries of a module that are looked through. */
#define MOST_GLOBALS 500

static PyObject *
find_in_globals(PyObject *globals, const void *target, int owner, struct text *name)
{
    PyDictKeysObject *keys = keys_of(globals);
    PyObject *key, *value;
    for (Py_ssize_t i = 0; keys != NULL && i < keys->dk_nentries && i < MOST_GLOBALS; i++) {
        if (entry_of(keys, i, &key, &value) && value != NULL && is_it(value, target, owner)) {
            put_string(name, key);
            return value;
        }
    }
    return NULL;
}

/* Among the variables of a function, and their attributes. */
static PyObject *
find_in_locals(_PyInterpreterFrame *frame, const void *target, int owner, struct text *name)
{
    PyCodeObject *code = code_of(frame);
    PyObject *names = code->co_localsplusnames;
    for (int i = 0; i < code->co_nlocalsplus; i++) {
        PyObject *op = frame->localsplus[i];
        if (is_object(op) && Py_TYPE(op) == &PyCell_Type) {
            op = ((PyCellObject *)op)->ob_ref;
        }
        if (!is_object(op)) {
            continue;
        }
        if (has_type(names, &PyTuple_Type) && i < Py_SIZE(names)) {
            put_string(name, ((PyTupleObject *)names)->ob_item[i]);
        }
        PyObject *found = is_it(op, target, owner) ? op : find_in_instance(op, target, owner, name);
        if (found != NULL) {
            return found;
        }
        name->n = 0;
    }
    return NULL;
}

/* Looks where the thread's innermost frames do for an object, or for the one that has a block outside of
 * itself; and says what it is called there. Its values may have none. */
static PyObject *
find(const void *target, int owner, struct text *name)
{
    _PyInterpreterFrame *frames[3];
    int depth = 0;
    for (_PyInterpreterFrame *f = innermost(); f != NULL && depth < 3; f = with_line(f->previous)) {
        frames[depth++] = f;
    }
    PyObject *found = NULL;
    for (int i = 0; i < depth && found == NULL; i++) {
        found = find_in_locals(frames[i], target, owner, name);
        if (found == NULL && (i == 0 || frames[i]->f_globals != frames[i - 1]->f_globals)) {
            found = find_in_globals(frames[i]->f_globals, target, owner, name);
        }
    }
    for (int i = 0; i < depth && found == NULL && owner; i++) {
        /* Above the top of the stack there may be anything. */
        PyCodeObject *code = code_of(frames[i]);
        PyObject **stack = frames[i]->localsplus + code->co_nlocalsplus;
        for (int at = 0; at < code->co_stacksize && found == NULL; at++) {
            if (is_it(stack[at], target, owner)) {
                found = stack[at];
            }
        }
    }
    return found;
}

/* Whether it is the namespace of a module that one of the innermost frames belongs to; says which. */
static int
is_globals(const void *keys, struct text *module)
{
    _PyInterpreterFrame *frame = innermost();
    for (int depth = 0; frame != NULL && depth < 3; depth++) {
        PyObject *globals = frame->f_globals, *key, *value;
        PyDictKeysObject *table = keys_of(globals);
        if (table != NULL && (table == keys || (const void *)globals == keys)) {
            for (Py_ssize_t i = 0; i < table->dk_nentries && i < 10; i++) {
                struct text name = {.n = 0};
                if (entry_of(table, i, &key, &value)) {
                    put_string(&name, key);
                    if (strcmp(name.bytes, "__name__") == 0) {
                        put_string(module, value);
                        return 1;
                    }
                }
            }
            return 1;
        }
        frame = with_line(frame->previous);
    }
    return 0;
}

/* --- what: objects ----------------------------------------------------------------------------- */

#define ADVICE_GLOBAL                                                                             \
    "assign a global less often: count in a local variable, and add it to the global at the end"
#define ADVICE_DICT                                                                               \
    "give each thread a dict of its own and merge them at the end, or spread the keys over several dicts"
#define ADVICE_LIST "let each thread fill a list of its own, and join them at the end"
#define ADVICE_SET "let each thread fill a set of its own, and unite them at the end"
#define ADVICE_ATTRIBUTE                                                                          \
    "keep the value in a local variable while it changes often, or give each thread an object of its own"
#define ADVICE_RANDOM                                                                             \
    "all threads draw from one generator: make a random.Random() for each thread"
#define ADVICE_COUNT "references to an object that all threads use: let each thread have a copy of its own"
#define ADVICE_CODE "instructions adapt to what they see, which ends after a while"
#define ADVICE_LOCK                                                                               \
    "one transaction at a time can hold locks: `with ame.atomic:` needs none, and runs in parallel"
#define ADVICE_OUTPUT                                                                             \
    "only one transaction at a time can do what cannot be undone: do it less often, and more at once"

static int
is_random(PyTypeObject *type)
{
    for (int i = 0; type != NULL && i < 8 && is_type(type); i++, type = type->tp_base) {
        struct text name = {.n = 0};
        put_name(&name, type->tp_name);
        if (strcmp(name.bytes, "_random.Random") == 0) {
            return 1;
        }
    }
    return 0;
}

/* The slot or C member of an object at an offset. */
static const char *
member_at(PyTypeObject *type, size_t offset)
{
    PyMemberDef *members = type->tp_members;
    for (int i = 0; members != NULL && i < 200; i++) {
        if (!readable(&members[i], sizeof *members) || members[i].name == NULL) {
            return NULL;
        }
        if ((size_t)members[i].offset == offset) {
            return members[i].name;
        }
    }
    return NULL;
}

static void
put_of(struct text *to, const struct text *name)
{
    if (name->n != 0) {
        put(to, " of %s", name->bytes);
    }
}

/* An attribute, or NULL for them all, of a module, a class or an instance. */
static uint32_t
describe_attribute(PyObject *owner, const struct text *name, PyObject *key)
{
    struct text kind = {.n = 0}, part = {.n = 0};
    int module = Py_TYPE(owner) == &PyModule_Type;
    if (module) {
        put(&kind, "module globals");
    }
    else {
        put_name(&kind, Py_TYPE(owner)->tp_name);
    }
    put(&part, module ? "name" : "attribute");
    if (key == NULL) {
        put(&part, "s");
    }
    else if (module) {
        put(&part, " ");
        put_key(&part, key);
    }
    else {
        put(&part, " ");
        put_string(&part, key);
    }
    put_of(&part, name);
    return ame_host_object(kind.bytes, part.bytes, module ? ADVICE_GLOBAL : ADVICE_ATTRIBUTE);
}

static uint32_t
describe_object(PyObject *op, const char *address)
{
    PyTypeObject *type = Py_TYPE(op);
    struct text kind = {.n = 0}, part = {.n = 0}, name = {.n = 0}, module = {.n = 0};
    put_name(&kind, type->tp_name);
    const char *advice = "";
    ptrdiff_t at = address - (char *)op;
    find(op, 0, &name);
    if (type == &PyFunction_Type || type == &PyCode_Type) {
        name.n = 0;
        put_string(&name, type == &PyCode_Type ? ((PyCodeObject *)op)->co_qualname
                                               : ((PyFunctionObject *)op)->func_qualname);
    }
    else if (has_flag(op, Py_TPFLAGS_TYPE_SUBCLASS)) {
        name.n = 0;
        put_name(&name, ((PyTypeObject *)op)->tp_name);
    }
    if (at >= 0 && at < (ptrdiff_t)sizeof(PyObject)) {
        put(&part, "reference count");
        put_of(&part, &name);
        advice = ADVICE_COUNT;
    }
    else if (at < 0) {
        if (at >= -(ptrdiff_t)sizeof(PyGC_Head)) {
            put(&part, "links of the garbage collector");
        }
        else {
            put(&part, "attributes");
            advice = ADVICE_ATTRIBUTE;
        }
        put_of(&part, &name);
    }
    else if (is_random(type)) {
        put(&part, "state of the generator");
        put_of(&part, &name);
        advice = ADVICE_RANDOM;
    }
    else if (has_flag(op, Py_TPFLAGS_DICT_SUBCLASS)) {
        if (is_globals(op, &module)) {
            kind.n = 0;
            put(&kind, "module globals");
            put(&part, "names of %s", module.n != 0 ? module.bytes : "a module");
            advice = ADVICE_GLOBAL;
        }
        else {
            PyObject *owner = name.n == 0 ? find(op, 1, &name) : NULL;
            if (owner != NULL && is_object(owner)) {
                return describe_attribute(owner, &name, NULL);
            }
            put(&part, "contents");
            put_of(&part, &name);
            advice = ADVICE_DICT;
        }
    }
    else if (has_flag(op, Py_TPFLAGS_LIST_SUBCLASS)) {
        put(&part, "length");
        put_of(&part, &name);
        advice = ADVICE_LIST;
    }
    else if (type == &PySet_Type) {
        put(&part, "contents");
        put_of(&part, &name);
        advice = ADVICE_SET;
    }
    else if (type == &PyCode_Type) {
        int inside = at >= (ptrdiff_t)offsetof(PyCodeObject, co_code_adaptive);
        put(&part, "%s of %s", inside ? "instructions" : "fields", name.bytes);
        advice = inside ? ADVICE_CODE : "";
    }
    else if (has_flag(op, Py_TPFLAGS_TYPE_SUBCLASS)) {
        put(&part, "attributes of class %s", name.bytes);
    }
    else {
        PyDictKeysObject *keys;
        PyObject *key, *unused;
        PyDictValues *values = inline_values(op, &keys);
        const char *member = member_at(type, at);
        const char *first = values == NULL ? NULL : (const char *)values->values;
        if (values != NULL && address >= first &&
            entry_of(keys, (address - first) / sizeof(PyObject *), &key, &unused)) {
            put(&part, "attribute ");
            put_string(&part, key);
        }
        else if (member != NULL) {
            put(&part, "attribute ");
            put_name(&part, member);
        }
        else {
            put(&part, values != NULL ? "attributes" : "contents");
        }
        put_of(&part, &name);
        advice = ADVICE_ATTRIBUTE;
    }
    return ame_host_object(kind.bytes, part.bytes, advice);
}

/* A block that is part of an object elsewhere: keys of a dict, items of a list. */
static uint32_t
describe_part(const void *block, size_t bytes, const char *address)
{
    struct text kind = {.n = 0}, part = {.n = 0}, name = {.n = 0}, module = {.n = 0};
    if (is_keys((PyDictKeysObject *)block, bytes)) {
        PyDictKeysObject *keys = (PyDictKeysObject *)block;
        PyObject *key, *value;
        char *entries = _DK_ENTRIES(keys);
        size_t size = keys->dk_kind == DICT_KEYS_GENERAL ? sizeof(PyDictKeyEntry)
                                                         : sizeof(PyDictUnicodeEntry);
        int globals = is_globals(block, &module);
        PyObject *owner = globals ? NULL : find(block, 1, &name);
        if (address < entries || !entry_of(keys, (address - entries) / size, &key, &value)) {
            key = NULL;
        }
        if (owner != NULL && is_object(owner) && !has_flag(owner, Py_TPFLAGS_DICT_SUBCLASS)) {
            return describe_attribute(owner, &name, key);
        }
        put(&part, key == NULL ? globals ? "names" : "keys" : globals ? "name " : "key ");
        if (key != NULL) {
            put_key(&part, key);
        }
        if (globals) {
            put_of(&part, &module);
            return ame_host_object("module globals", part.bytes, ADVICE_GLOBAL);
        }
        if (owner != NULL && is_object(owner)) {
            put_name(&kind, Py_TYPE(owner)->tp_name);
        }
        put_of(&part, &name);
        return ame_host_object(kind.n != 0 ? kind.bytes : "dict", part.bytes, ADVICE_DICT);
    }
    PyObject *owner = find(block, 1, &name);
    if (owner == NULL || !is_object(owner)) {
        return 0;
    }
    put_name(&kind, Py_TYPE(owner)->tp_name);
    put(&part, "items");
    put_of(&part, &name);
    const char *advice = has_flag(owner, Py_TPFLAGS_LIST_SUBCLASS)   ? ADVICE_LIST
                         : has_flag(owner, Py_TPFLAGS_DICT_SUBCLASS) ? ADVICE_DICT
                         : Py_TYPE(owner) == &PySet_Type             ? ADVICE_SET
                                                                     : "";
    return ame_host_object(kind.bytes, part.bytes, advice);
}

/* --- why --------------------------------------------------------------------------------------- */

/* By the function that made the transaction irrevocable. */
static const struct {
    const char *function, *type, *part, *advice;
} reasons[] = {
    {"ame_py_mutex", "lock", "of the interpreter or of C code", ADVICE_LOCK},
    {"ame_py_event", "lock", "wait or notification between threads", ADVICE_LOCK},
    {"ame_py_park", "lock", "wait for it", ADVICE_LOCK},
    {"ame_py_unpark", "lock", "release while others wait", ADVICE_LOCK},
    {"ame_py_acquire_lock", "lock", "acquired", ADVICE_LOCK},
    {"ame_py_release_lock", "lock", "released", ADVICE_LOCK},
    {"ame_py_free_lock", "lock", "freed", ADVICE_LOCK},
    {"pyame_immortalize", "interpreter", "makes a string immortal", ""},
    {"ame_py_call_once", "interpreter", "initialised something", ""},
    {"ame_py_set_finalizing", "interpreter", "ends", ""},
    {"ame_py_start", "thread", "started", "start threads once and give them much work"},
    {"gather", "garbage collector", "run",
     "collections stop all threads: larger gc.set_threshold(), or gc.freeze() after set-up"},
    {"ame_py_clear", "interpreter", "caches cleared by a collection", ""},
    {"ame_py_drop_gil", "blocking call", "in `with ame.atomic`",
     "wait, read and write outside of the block"},
    {"begin", "code that ran before there were threads", "has to return first",
     "start the threads before long calls from C, or let the main thread only wait"},
    {"undress", "code that ran before there were threads", "goes on",
     "start the threads before long calls from C, or let the main thread only wait"},
    {"inevitable", "ame.inevitable()", "called", ""},
};

static uint32_t
why(void)
{
    struct ame_py_thread *self = ame_py_self;
    if (self == NULL) {
        return 0;
    }
    const char *function = self->reason;
    if (function == NULL) {
        return ame_host_object(
            "call", "that cannot be undone (input, output, a C library, a change of a class)", ADVICE_OUTPUT);
    }
    for (size_t i = 0; i < sizeof reasons / sizeof *reasons; i++) {
        if (strncmp(function, reasons[i].function, strlen(reasons[i].function)) == 0) {
            return ame_host_object(reasons[i].type, reasons[i].part, reasons[i].advice);
        }
    }
    return ame_host_object("interpreter", function, "");
}

void
ame_py_waited_to_join(unsigned long long since, int in_turns)
{
    uint32_t object =
        in_turns ? ame_host_object("threads that take turns", "as with a GIL",
                                   "beside each other they would wait for the same memory all the time: see what the "
                                   "other conflicts are about")
                 : ame_host_object("thread that ran alone", "had to let others in",
                                   "threads that often wait (input, output, locks) alternate between running alone and "
                                   "beside others: let them do more between waits");
    ame_host_waited(object, since);
}

static uint32_t
what(const void *address, const void *block, size_t bytes)
{
    if (address == NULL) {
        return why();
    }
    struct ame_py_thread *self = ame_py_self;
    if (self == NULL || self->tstate == NULL) {
        return 0;
    }
    if (block == NULL) {
        const char *runtime = (const char *)&_PyRuntime;
        int state = (const char *)address >= runtime &&
                    (const char *)address < runtime + sizeof _PyRuntime;
        return state ? ame_host_object("interpreter", "state that all threads share", "") : 0;
    }
    /* Before an object are, if its type says so, its dictionary and weak references, and its links of
     * the collector. */
    for (size_t before = 0; before <= 32 && before + sizeof(PyObject) <= bytes; before += 16) {
        PyObject *op = (PyObject *)((char *)block + before);
        if (is_object(op) && _PyType_PreHeaderSize(Py_TYPE(op)) == before &&
            before + Py_TYPE(op)->tp_basicsize <= bytes) {
            return describe_object(op, address);
        }
    }
    return describe_part(block, bytes, address);
}

void ame_set_host(uint32_t (*site)(void),
                  uint32_t (*object)(const void *address, const void *block, size_t bytes));

void
ame_py_init_host(void)
{
    ame_set_host(where, what);
}
