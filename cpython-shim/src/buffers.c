/* Instrumented: what objects own, and write to where it is: buffers, and results of iterators. */
#include "shim.h"
#include "pycore_frame.h"
#include "../Parser/lexer/state.h"
#include "../Parser/lexer/lexer.h"

/* The count is this transaction's: it has no part that another one has not told yet, and it stays. (All empty ones are one
 * object, which is immortal.) */
static void
acquire_count(PyObject *op)
{
    if (!_Py_IsImmortal(op)) {
        ame_write_range(&op->ob_refcnt, sizeof op->ob_refcnt);
    }
}

/* The owner writes to the object while it has the only reference, and hands out others. Counting them does not conflict with
 * reading the count, and reading what is in such objects conflicts with nothing. */
Py_ssize_t
pyame_owned_Py_REFCNT(PyObject *op)
{
    acquire_count(op);
    return op->ob_refcnt;
}

/* A BytesIO asks for the size before it hands its bytes out. */
Py_ssize_t
pyame_owned_PyBytes_GET_SIZE(PyObject *bytes)
{
    acquire_count(bytes);
    return Py_SIZE(bytes);
}

/* A StringIO owns a writer of strings. Elsewhere writers are of one call, and neither they nor what they write to need
 * locks: here two threads may come to one of them. Whoever has the writer has its string. */
static void
acquire(_PyUnicodeWriter *writer)
{
    ame_write_range(writer, sizeof *writer);
}

void
pyame_owned_PyUnicodeWriter_Init(_PyUnicodeWriter *writer)
{
    acquire(writer);
    _PyUnicodeWriter_Init(writer);
}

int
pyame_owned_PyUnicodeWriter_WriteStr(_PyUnicodeWriter *writer, PyObject *str)
{
    acquire(writer);
    return _PyUnicodeWriter_WriteStr(writer, str);
}

PyObject *
pyame_owned_PyUnicodeWriter_Finish(_PyUnicodeWriter *writer)
{
    acquire(writer);
    return _PyUnicodeWriter_Finish(writer);
}

void
pyame_owned_PyUnicodeWriter_Dealloc(_PyUnicodeWriter *writer)
{
    acquire(writer);
    _PyUnicodeWriter_Dealloc(writer);
}

/* An iterator over tokens owns a tokenizer; others are of one call. */
int
pyame_owned_PyTokenizer_Get(struct tok_state *tokenizer, struct token *token)
{
    ame_write_range(tokenizer, sizeof tokenizer->buf);
    return _PyTokenizer_Get(tokenizer, token);
}

/* A frame has one frame object, whoever asks for it first. */
PyFrameObject *
pyame_owned_PyFrame_MakeAndSetFrameObject(_PyInterpreterFrame *frame)
{
    ame_write_range(&frame->frame_obj, sizeof frame->frame_obj);
    return _PyFrame_MakeAndSetFrameObject(frame);
}

/* What a frame has is its thread's alone while it runs. */
PyCodeObject *
pyame_owned_PyFrame_GetCode(_PyInterpreterFrame *frame)
{
    if (frame->owner != FRAME_OWNED_BY_FRAME_OBJECT && !ame_py_runs(frame)) {
        ame_py_alone();
    }
    return _PyFrame_GetCode(frame);
}
