"""Changes to CPython's text: where the evaluation loop meets src/eval.h.

No annotation can say these. A loop that has to change between its copies with and without barriers
can do so between two instructions only, with all of its local variables; and the other copy ends
at the entry frame of the loop that it goes on for.
"""

from .cache import Failure

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
)


def apply(tree):
    """Makes the changes in a freshly unpacked source tree."""
    for name, old, new in EDITS:
        path = tree / name
        text = path.read_text()
        if text.count(old) != 1:
            raise Failure(f"{path}: expected once, found {text.count(old)} times:\n{old}")
        path.write_text(text.replace(old, new))
