//! What functions of Python's API mean for code that relies on a GIL.

/// What a call may do while it runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Effect {
    /// No Python code, no release of the GIL, for objects of the usual types.
    Keeps,
    /// Drops a reference: runs Python code when that was the last one and the object has a finalizer.
    Drops,
    /// May run Python code or release the GIL.
    Runs,
}

pub fn is_python(name: &str) -> bool {
    name.starts_with("Py") || name.starts_with("_Py")
}

/// Functions that drop references, as the headers define them.
const DROPS: [&str; 7] = [
    "Py_DECREF",
    "Py_XDECREF",
    "Py_DecRef",
    "_Py_DECREF_NO_DEALLOC",
    "_Py_Dealloc",
    "_Py_DecRefShared",
    "_Py_MergeZeroLocalRefcount",
];

/// Families of functions that keep the GIL, by the beginning of their names; what is not here runs code.
const KEEPS: &[&str] = &[
    "PyArg_",
    "PyBool_",
    "PyBuffer_",
    "PyByteArray_",
    "PyBytes_",
    "PyCFunction_",
    "PyCMethod_New",
    "PyCapsule_",
    "PyCell_",
    "PyComplex_",
    "PyContextVar_New",
    "PyCriticalSection",
    "PyDateTime_",
    "PyDict_Clear",
    "PyDict_Copy",
    "PyDict_GetItemString",
    "PyDict_GetItemWithErrorString",
    "PyDict_Items",
    "PyDict_Keys",
    "PyDict_New",
    "PyDict_Next",
    "PyDict_SetItemString",
    "PyDict_Size",
    "PyDict_Values",
    "PyErr_BadArgument",
    "PyErr_BadInternalCall",
    "PyErr_Clear",
    "PyErr_ExceptionMatches",
    "PyErr_Fetch",
    "PyErr_Format",
    "PyErr_GetRaisedException",
    "PyErr_GivenExceptionMatches",
    "PyErr_NewException",
    "PyErr_NoMemory",
    "PyErr_Occurred",
    "PyErr_Restore",
    "PyErr_Set",
    "PyException_",
    "PyFloat_",
    "PyFrozenSet_New",
    "PyGILState_",
    "PyIndex_Check",
    "PyInterpreterState_",
    "PyIter_Check",
    "PyList_Append",
    "PyList_AsTuple",
    "PyList_GET_",
    "PyList_SET_",
    "PyList_GetItem",
    "PyList_GetSlice",
    "PyList_Insert",
    "PyList_New",
    "PyList_Reverse",
    "PyList_SetItem",
    "PyList_Size",
    "PyLong_",
    "PyMapping_Check",
    "PyMem_",
    "PyModuleDef_Init",
    "PyModule_",
    "PyMutex_",
    "PyNumber_AsSsize_t",
    "PyNumber_Check",
    "PyNumber_Index",
    "PyObject_Calloc",
    "PyObject_CheckBuffer",
    "PyObject_ClearWeakRefs",
    "PyObject_Free",
    "PyObject_GC_",
    "PyObject_GenericGetDict",
    "PyObject_GetBuffer",
    "PyObject_Init",
    "PyObject_Malloc",
    "PyObject_Realloc",
    "PyObject_SelfIter",
    "PyObject_TypeCheck",
    "PyOS_",
    "PySeqIter_",
    "PySequence_Check",
    "PySet_Clear",
    "PySet_New",
    "PySet_Size",
    "PySlice_",
    "PyState_",
    "PyStructSequence_",
    "PySys_GetObject",
    "PyThreadState_Get",
    "PyThread_",
    "PyTraceBack_Here",
    "PyTuple_",
    "PyType_From",
    "PyType_GenericAlloc",
    "PyType_Get",
    "PyType_HasFeature",
    "PyType_IsSubtype",
    "PyType_Modified",
    "PyType_Ready",
    "PyUnicode_",
    "PyUnstable_",
    "PyWeakref_",
    "Py_AtExit",
    "Py_BuildValue",
    "Py_CLEAR",
    "Py_EnterRecursiveCall",
    "Py_FatalError",
    "Py_GetVersion",
    "Py_HashPointer",
    "Py_INCREF",
    "Py_IS_TYPE",
    "Py_IncRef",
    "Py_Is",
    "Py_LeaveRecursiveCall",
    "Py_NewRef",
    "Py_REFCNT",
    "Py_ReprLeave",
    "Py_SET_",
    "Py_SIZE",
    "Py_TYPE",
    "Py_VaBuildValue",
    "Py_XINCREF",
    "Py_XNewRef",
    "PyEval_Get",
    "PyEval_RestoreThread",
    "PyEval_SaveThread",
    "PyFrame_New",
    "PyFunction_Get",
    "PyCode_NewEmpty",
    "PyDescr_New",
    "PyGen_Check",
    "PyMethod_",
    "PyErr_PrintEx",
    "PyErr_WriteUnraisable",
];

/// Of those, the ones that do run code: beginnings of names.
const RUNS: &[&str] = &[
    "PyUnicode_Format",
    "PyUnicode_Join",
    "PyUnicode_FromEncodedObject",
    "PyUnicode_FromObject",
    "PyUnicode_AsEncodedString",
    "PyUnicode_AsDecoded",
    "PyUnicode_AsEncodedObject",
    "PyUnicode_Contains",
    "PyUnicode_RichCompare",
    "PyBytes_FromObject",
    "PyBytes_Join",
    "PyFloat_FromString",
    "PyLong_FromUnicodeObject",
    "PyCapsule_Import",
    "PyModule_GetObject",
    "PyMethod_Call",
    "PyCFunction_Call",
    "PyByteArray_FromObject",
    "PyUnicode_FSConverter",
    "PyUnicode_FSDecoder",
    "PyEval_SaveThread",
    "PyOS_AfterFork",
    "PyOS_ReadLine",
];

/// What a function of the API may do. Macros whose body is in a header and calls nothing of this are not asked
/// about: `Py_INCREF` has a body.
pub fn effect(name: &str) -> Effect {
    if DROPS.contains(&name) {
        return Effect::Drops;
    }
    let starts = |list: &[&str]| list.iter().any(|start| name.starts_with(start));
    if starts(RUNS) {
        return Effect::Runs;
    }
    // Internal functions follow their public names: _PyLong_AsInt.
    let public = name.strip_prefix('_').unwrap_or(name);
    let keeps = public.ends_with("_Check")
        || public.ends_with("_CheckExact")
        || public.starts_with("Py_atomic")
        || public.starts_with("PyObject_New")
        || KEEPS.iter().any(|start| public.starts_with(start));
    if keeps {
        Effect::Keeps
    } else {
        Effect::Runs
    }
}

/// A function that gives away a reference which its container owns.
pub struct Borrows {
    /// `list`, `dict`, ...: what the container is.
    pub container: &'static str,
    /// Which argument that is.
    pub argument: Option<u32>,
}

pub fn borrows(name: &str) -> Option<Borrows> {
    let from = |container, argument| {
        Some(Borrows {
            container,
            argument: Some(argument),
        })
    };
    match name {
        "PyList_GetItem" => from("list", 0),
        "PyDict_GetItem"
        | "PyDict_GetItemWithError"
        | "PyDict_GetItemString"
        | "_PyDict_GetItem_KnownHash"
        | "_PyDict_GetItemStringWithError"
        | "PyDict_SetDefault"
        | "PyDict_Next"
        | "_PyDict_Next" => from("dict", 0),
        "PyWeakref_GetObject" | "PyWeakref_GET_OBJECT" => from("weak reference", 0),
        "PyCell_GET" => from("cell", 0),
        "_PySet_NextEntry" => from("set", 0),
        "PyImport_AddModule" | "PyImport_AddModuleObject" => Some(Borrows {
            container: "sys.modules",
            argument: None,
        }),
        "PySys_GetObject" => Some(Borrows {
            container: "sys",
            argument: None,
        }),
        _ => None,
    }
}

/// Arguments from this one on are where `PyArg_...` puts what it has read.
pub fn outputs(name: &str) -> Option<u32> {
    match name {
        "PyArg_ParseTupleAndKeywords"
        | "_PyArg_ParseTupleAndKeywords_SizeT"
        | "PyArg_UnpackTuple" => Some(4),
        "PyArg_ParseTuple" | "_PyArg_ParseTuple_SizeT" | "PyArg_Parse" | "_PyArg_Parse_SizeT" => {
            Some(2)
        }
        _ => None,
    }
}

/// Functions whose result nobody else has seen.
pub fn makes(name: &str) -> bool {
    matches!(
        name,
        "PyList_New"
            | "PyDict_New"
            | "PyDict_Copy"
            | "PySequence_List"
            | "PyDict_Keys"
            | "PyDict_Values"
            | "PyDict_Items"
            | "PyMapping_Keys"
            | "PyMapping_Items"
            | "PyMapping_Values"
            | "PyList_GetSlice"
            | "PySet_New"
            | "PyObject_Dir"
    )
}

/// Structs of Python whose memory is its own affair, when they can change while others look: name in IR, what
/// it is.
pub const CONTAINERS: [(&str, &str); 6] = [
    ("struct.PyListObject", "list"),
    ("struct.PyDictObject", "dict"),
    ("struct.PySetObject", "set"),
    ("struct.PyByteArrayObject", "bytearray"),
    ("struct.PyCellObject", "cell"),
    ("struct._PyWeakReference", "weak reference"),
];
