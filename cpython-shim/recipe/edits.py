"""Changes to CPython's text, which no annotation can say.

Where the evaluation loop meets src/eval.h: it changes between its copies with and without barriers
between two instructions only, with all of its local variables; and the other copy ends at the entry
frame of the loop that it goes on for. The others are words that all threads would write to all the
time, so that their processors' caches would do little but exchange them.
"""

from .cache import Failure

# File, what is there, what comes in its place, how often it is there.
EDITS = (
    # After the thread has dropped the GIL and taken it again.
    ("Python/ceval_macros.h",
     "            GOTO_ERROR(error); \\\n        } \\\n",
     "            GOTO_ERROR(error); \\\n        } \\\n        AME_PY_CHECKED() \\\n"),
    ("Python/ceval.c",
     "    entry_frame.f_executable = Py_None;\n",
     "    AME_PY_ENTERED()\n    entry_frame.f_executable = Py_None;\n"),
    ("Python/ceval.c",
     "    next_instr = frame->instr_ptr;\nresume_frame:\n",
     "ame_go_on:\n    next_instr = frame->instr_ptr;\nresume_frame:\n"),
    # The frame may be that of the loop that this one goes on for.
    ("Python/ceval.c",
     "    if (frame == &entry_frame) {\n",
     "    if (frame->owner == FRAME_OWNED_BY_CSTACK) {\n"),
    ("Python/ceval.c",
     "exit_unwind:\n    assert(_PyErr_Occurred(tstate));\n",
     "AME_PY_CHANGE()\nexit_unwind:\n    assert(_PyErr_Occurred(tstate));\n"),
    # Where an atomic block begins, the copy without barriers is left at once.
    ("Python/generated_cases.c.h",
     "            stack_pointer[-1] = exit;\n            stack_pointer[0] = res;\n            stack_pointer += 1;\n"
     "            DISPATCH();\n        }\n\n        TARGET(BINARY_OP) {\n",
     "            stack_pointer[-1] = exit;\n            stack_pointer[0] = res;\n            stack_pointer += 1;\n"
     "            AME_PY_BLOCK()\n"
     "            DISPATCH();\n        }\n\n        TARGET(BINARY_OP) {\n"),
    # The history of a branch: read by the second tier only, which is not built.
    ("Python/generated_cases.c.h",
     "this_instr[1].cache = (this_instr[1].cache << 1) |",
     "if (0) this_instr[1].cache = (this_instr[1].cache << 1) |", 8),
    # A platform of its own: pip installs no wheel with code of another compiler, but builds it from source, and
    # other Pythons do not get ours from its cache. What only helps to build a package (cmake, say) may be any, and
    # all may where users say so.
    ("Lib/sysconfig/__init__.py",
     "            return  f\"{osname}-{machine}\"\n",
     "            own = machine == \"x86_64\" and os.environ.get(\"AME_WHEELS\", \"0\") in (\"\", \"0\") \\\n"
     "                and not any(\"pip-build-env-\" in word for word in sys.orig_argv)\n"
     "            return f\"{osname}-{machine}\" + (\"-ame\" if own else \"\")\n"),
    # How often until an instruction is specialised.
    ("Python/ceval_macros.h",
     "        (COUNTER) = advance_backoff_counter((COUNTER)); \\\n",
     "        AME_PY_ADVANCE(COUNTER) \\\n"),
    # Whole granules, also of the main thread's state, which is part of it: else a rollback restores request bits of
    # its evaluation loop, and that a signal has come, with what lies beside them.
    ("Python/pylifecycle.c",
     "__attribute__ ((section (\".PyRuntime\")))\n",
     "__attribute__ ((section (\".PyRuntime\"), aligned(16)))\n"),
    # Without a call, which acquires once more what has been written to just before. (_Py_NewReference() is in another file.)
    ("Include/internal/pycore_object.h",
     "    Py_INCREF(typeobj);\n    _Py_NewReference(op);\n",
     "    Py_INCREF(typeobj);\n    op->ob_refcnt = 1;\n    _PyReftracerTrack(op, PyRefTracer_CREATE);\n"),
    # In an atomic block that cannot be rolled back there is no use in waiting for another thread: an error, no hang.
    ("Modules/_io/bufferedio.c",
     "    if (!relax_locking)\n        st = PyThread_acquire_lock(self->lock, 1);\n",
     "    PyLockStatus ame_py_acquire_file_lock(PyThread_type_lock);\n"
     "    if (!relax_locking)\n        st = ame_py_acquire_file_lock(self->lock);\n"),
    ("Modules/_io/bufferedio.c",
     "    if (relax_locking && st != PY_LOCK_ACQUIRED) {\n",
     "    if (st == PY_LOCK_INTR) {\n        int ame_py_file_is_busy(void);\n        return ame_py_file_is_busy();\n    }\n"
     "    if (relax_locking && st != PY_LOCK_ACQUIRED) {\n"),
    # Keeps the message that says why (src/locks.c).
    ("Modules/_threadmodule.c",
     "        thread_bootstate_free(boot, 1);\n        PyErr_SetString(ThreadError, \"can't start new thread\");\n",
     "        thread_bootstate_free(boot, 1);\n"
     "        if (!PyErr_Occurred()) PyErr_SetString(ThreadError, \"can't start new thread\");\n"),
    # Not the function that acquires the count of a BytesIO's own bytes (src/buffers.c): these may be many threads'.
    ("Modules/_io/bytesio.c",
     "            self->string_size = PyBytes_GET_SIZE(initvalue);\n",
     "            self->string_size = Py_SIZE(initvalue);\n"),
    # One read: the number that is given out is the one that the addition finds.
    ("Objects/codeobject.c",
     "    co->co_version = interp->func_state.next_version;\n    if (interp->func_state.next_version != 0) {\n"
     "        interp->func_state.next_version++;\n    }\n",
     "    co->co_version = interp->func_state.next_version != 0 ? interp->func_state.next_version++ : 0;\n"),
    # The source of versions of dictionaries: of each thread.
    ("Include/internal/pycore_dict.h",
     "#define DICT_NEXT_VERSION(INTERP) \\\n    ((INTERP)->dict_state.global_version += DICT_VERSION_INCREMENT)\n",
     "uint64_t ame_py_dict_version(void);\n#define DICT_NEXT_VERSION(INTERP) ame_py_dict_version()\n"),
)


def apply(tree):
    """Makes the changes in a freshly unpacked source tree."""
    for name, old, new, *times in EDITS:
        path = tree / name
        text = path.read_text()
        if text.count(old) != (times or [1])[0]:
            raise Failure(f"{path}: found {text.count(old)} times:\n{old}")
        path.write_text(text.replace(old, new))
