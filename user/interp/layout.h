/* SPDX-License-Identifier: MIT */
/*
 * Where CPython keeps what: one struct of offsets per version, filled from a
 * generated table (layout_table.h), corrected by rows of patch-level
 * differences and, from 3.13, by the debug offsets in the target itself.
 * Outside interp/ nobody reads these fields. An offset a version does not have is
 * NO_OFFSET; every offset is below LAYOUT_OFFSET_MAX whatever its source.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../bpf/control.h"

#define LAYOUT_MINOR_FIRST 8u
#define LAYOUT_MINOR_LAST 15u
#define LAYOUT_OFFSET_MAX (1u << 20)

#define PY_HEX(major, minor, micro) \
	(((uint32_t)(major) << 24) | ((uint32_t)(minor) << 16) | ((uint32_t)(micro) << 8) | 0xf0u)
#define PY_HEX_MAJOR(hex) (((hex) >> 24) & 0xffu)
#define PY_HEX_MINOR(hex) (((hex) >> 16) & 0xffu)
#define PY_HEX_MICRO(hex) (((hex) >> 8) & 0xffu)

/*
 * X(field, "where it is in CPython's structs: Struct.member, alternatives by version separated by |", "name in _Py_DebugOffsets").
 * scripts/gen-layouts.py reads this list: a new field is one line here and a run of the script. __size__ is sizeof.
 */
#define LAYOUT_FIELDS(X)                                                                                              \
	/* _PyRuntime */                                                                                              \
	X(rt_size, "_PyRuntimeState.__size__", "runtime_state.size")                                                  \
	X(rt_interpreters_head, "_PyRuntimeState.interpreters.head", "runtime_state.interpreters_head")               \
	X(rt_interpreters_main, "_PyRuntimeState.interpreters.main", "")                                              \
	X(rt_finalizing, "_PyRuntimeState._finalizing|_PyRuntimeState.finalizing", "runtime_state.finalizing")        \
	X(rt_tstate_current, "_PyRuntimeState.gilstate.tstate_current", "")                                           \
	X(rt_autotss, "_PyRuntimeState.gilstate.autoTSSkey|_PyRuntimeState.autoTSSkey", "")                           \
	X(rt_gc, "_PyRuntimeState.gc", "")                                                                            \
	X(rt_alloc_raw, "_PyRuntimeState.allocators.standard.raw", "")                                                \
	X(rt_alloc_mem, "_PyRuntimeState.allocators.standard.mem", "")                                                \
	X(rt_alloc_obj, "_PyRuntimeState.allocators.standard.obj", "")                                                \
	X(rt_alloc_debug, "_PyRuntimeState.allocators.debug.raw", "")                                                 \
	X(rt_alloc_arena, "_PyRuntimeState.allocators.obj_arena", "")                                                 \
	/* PyInterpreterState */                                                                                      \
	X(in_size, "_is.__size__", "interpreter_state.size")                                                          \
	X(in_next, "_is.next", "interpreter_state.next")                                                              \
	X(in_id, "_is.id", "interpreter_state.id")                                                                    \
	X(in_threads_head, "_is.threads.head|_is.tstate_head", "interpreter_state.threads_head")                      \
	X(in_feature_flags, "_is.feature_flags", "")                                                                  \
	X(in_gil, "_is.ceval.gil", "interpreter_state.ceval_gil")                                                     \
	X(in_own_gil, "_is.ceval.own_gil", "")                                                                        \
	X(in_obmalloc, "_is.obmalloc", "")                                                                            \
	X(in_gc, "_is.gc", "interpreter_state.gc")                                                                    \
	X(in_modules, "_is.imports.modules|_is.modules", "interpreter_state.imports_modules")                         \
	X(in_sysdict, "_is.sysdict", "interpreter_state.sysdict")                                                     \
	X(in_builtins, "_is.builtins", "interpreter_state.builtins")                                                  \
	X(in_builtin_types, "_is.types.builtins", "")                                                                 \
	X(in_freelists, "_is.object_state.freelists", "")                                                             \
	/* PyThreadState; ts_frame is frame, cframe or current_frame */                                               \
	X(ts_size, "_ts.__size__", "thread_state.size")                                                               \
	X(ts_prev, "_ts.prev", "thread_state.prev")                                                                   \
	X(ts_next, "_ts.next", "thread_state.next")                                                                   \
	X(ts_interp, "_ts.interp", "thread_state.interp")                                                             \
	X(ts_frame, "_ts.current_frame|_ts.frame|_ts.cframe", "thread_state.current_frame")                           \
	X(ts_base_frame, "_ts.base_frame", "thread_state.base_frame")                                                 \
	X(ts_thread_id, "_ts.thread_id", "thread_state.thread_id")                                                    \
	X(ts_native_thread_id, "_ts.native_thread_id", "thread_state.native_thread_id")                               \
	X(ts_status, "_ts._status", "thread_state.status")                                                            \
	X(ts_state, "_ts.state", "")                                                                                  \
	X(ts_datastack_chunk, "_ts.datastack_chunk", "thread_state.datastack_chunk")                                  \
	X(ts_current_exception, "_ts.current_exception", "thread_state.current_exception")                            \
	X(cframe_current, "_PyCFrame.current_frame", "")                                                              \
	X(gil_last_holder, "_gil_runtime_state.last_holder", "")                                                      \
	X(gil_locked, "_gil_runtime_state.locked", "")                                                                \
	/* the frame as the walker sees it: PyFrameObject up to 3.10, then _PyInterpreterFrame */                     \
	X(fr_size, "_PyInterpreterFrame.__size__|PyFrameObject.__size__", "interpreter_frame.size")                   \
	X(fr_code, "_PyInterpreterFrame.f_executable|_PyInterpreterFrame.f_code|PyFrameObject.f_code", "interpreter_frame.executable") \
	X(fr_back, "_PyInterpreterFrame.previous|PyFrameObject.f_back", "interpreter_frame.previous")                 \
	X(fr_instr, "_PyInterpreterFrame.instr_ptr|_PyInterpreterFrame.prev_instr|PyFrameObject.f_lasti", "interpreter_frame.instr_ptr") \
	X(fr_owner, "_PyInterpreterFrame.owner", "interpreter_frame.owner")                                           \
	X(fr_globals, "_PyInterpreterFrame.f_globals|PyFrameObject.f_globals", "")                                    \
	X(fr_func, "_PyInterpreterFrame.f_funcobj|_PyInterpreterFrame.f_func", "")                                    \
	X(fr_frame_obj, "_PyInterpreterFrame.frame_obj", "")                                                          \
	X(fr_stacktop, "_PyInterpreterFrame.stackpointer|_PyInterpreterFrame.stacktop", "interpreter_frame.stackpointer") \
	X(fr_locals, "_PyInterpreterFrame.localsplus|PyFrameObject.f_localsplus", "interpreter_frame.localsplus")     \
	/* PyCodeObject; co_code is bytes* up to 3.10, then the inline co_code_adaptive */                            \
	X(co_size, "PyCodeObject.__size__", "code_object.size")                                                       \
	X(co_filename, "PyCodeObject.co_filename", "code_object.filename")                                            \
	X(co_name, "PyCodeObject.co_name", "code_object.name")                                                        \
	X(co_qualname, "PyCodeObject.co_qualname", "code_object.qualname")                                            \
	X(co_firstlineno, "PyCodeObject.co_firstlineno", "code_object.firstlineno")                                   \
	X(co_linetable, "PyCodeObject.co_linetable|PyCodeObject.co_lnotab", "code_object.linetable")                  \
	X(co_code, "PyCodeObject.co_code_adaptive|PyCodeObject.co_code", "code_object.co_code_adaptive")              \
	X(co_flags, "PyCodeObject.co_flags", "")                                                                      \
	X(co_consts, "PyCodeObject.co_consts", "")                                                                    \
	X(co_argcount, "PyCodeObject.co_argcount", "code_object.argcount")                                            \
	X(co_varnames, "PyCodeObject.co_localsplusnames|PyCodeObject.co_varnames", "code_object.localsplusnames")     \
	X(co_firsttraceable, "PyCodeObject._co_firsttraceable", "")                                                   \
	X(co_nlocals, "PyCodeObject.co_nlocalsplus|PyCodeObject.co_nlocals", "")                                      \
	X(co_stacksize, "PyCodeObject.co_stacksize", "")                                                              \
	X(co_extra, "PyCodeObject.co_extra", "")                                                                      \
	X(co_cellvars, "PyCodeObject.co_cellvars", "")                                                                \
	X(co_freevars, "PyCodeObject.co_freevars", "")                                                                \
	X(co_cell2arg, "PyCodeObject.co_cell2arg", "")                                                                \
	/* objects */                                                                                                 \
	X(ob_refcnt, "PyObject.ob_refcnt", "")                                                                        \
	X(ob_type, "PyObject.ob_type", "pyobject.ob_type")                                                            \
	X(ob_head_size, "PyObject.__size__", "pyobject.size")                                                         \
	X(var_size, "PyVarObject.ob_size", "tuple_object.ob_size")                                                    \
	X(tp_size, "PyTypeObject.__size__", "type_object.size")                                                       \
	X(tp_name, "PyTypeObject.tp_name", "type_object.tp_name")                                                     \
	X(tp_basicsize, "PyTypeObject.tp_basicsize", "type_object.tp_basicsize")                                      \
	X(tp_itemsize, "PyTypeObject.tp_itemsize", "")                                                                \
	X(tp_flags, "PyTypeObject.tp_flags", "type_object.tp_flags")                                                  \
	X(tp_weaklistoffset, "PyTypeObject.tp_weaklistoffset", "")                                                    \
	X(tp_base, "PyTypeObject.tp_base", "")                                                                        \
	X(tp_dict, "PyTypeObject.tp_dict", "")                                                                        \
	X(tp_dictoffset, "PyTypeObject.tp_dictoffset", "type_object.tp_dictoffset")                                   \
	X(tp_mro, "PyTypeObject.tp_mro", "")                                                                          \
	X(ht_qualname, "PyHeapTypeObject.ht_qualname", "")                                                            \
	X(ht_cached_keys, "PyHeapTypeObject.ht_cached_keys", "heap_type_object.ht_cached_keys")                       \
	X(ht_size, "PyHeapTypeObject.__size__", "")                                                                   \
	X(str_length, "PyASCIIObject.length", "unicode_object.length")                                                \
	X(str_state, "PyASCIIObject.state", "unicode_object.state")                                                   \
	X(str_ascii_data, "PyASCIIObject.__size__", "unicode_object.asciiobject_size")                                \
	X(str_compact_data, "PyCompactUnicodeObject.__size__", "unicode_object.compactunicodeobject_size")            \
	X(str_data, "PyUnicodeObject.data", "")                                                                       \
	X(str_size, "PyUnicodeObject.__size__", "")                                                                   \
	X(str_utf8_length, "PyCompactUnicodeObject.utf8_length", "")                                                  \
	X(str_utf8, "PyCompactUnicodeObject.utf8", "")                                                                \
	X(str_wstr, "PyASCIIObject.wstr", "")                                                                         \
	X(str_wstr_length, "PyCompactUnicodeObject.wstr_length", "")                                                  \
	X(bytes_size, "PyVarObject.ob_size", "bytes_object.ob_size")                                                  \
	X(bytes_data, "PyBytesObject.ob_sval", "bytes_object.ob_sval")                                                \
	X(bytearray_alloc, "PyByteArrayObject.ob_alloc", "")                                                          \
	X(bytearray_buffer, "PyByteArrayObject.ob_bytes_object|PyByteArrayObject.ob_bytes", "")                       \
	X(list_items, "PyListObject.ob_item", "list_object.ob_item")                                                  \
	X(list_allocated, "PyListObject.allocated", "")                                                               \
	X(tuple_items, "PyTupleObject.ob_item", "tuple_object.ob_item")                                               \
	X(set_mask, "PySetObject.mask", "")                                                                           \
	X(set_table, "PySetObject.table", "")                                                                         \
	X(set_small, "PySetObject.smalltable", "")                                                                    \
	X(dict_used, "PyDictObject.ma_used", "")                                                                      \
	X(dict_keys, "PyDictObject.ma_keys", "dict_object.ma_keys")                                                   \
	X(dict_values, "PyDictObject.ma_values", "dict_object.ma_values")                                             \
	X(dk_size, "PyDictKeysObject.dk_size", "")                                                                    \
	X(dk_log2_size, "PyDictKeysObject.dk_log2_size", "")                                                          \
	X(dk_log2_index_bytes, "PyDictKeysObject.dk_log2_index_bytes", "")                                            \
	X(dk_kind, "PyDictKeysObject.dk_kind", "")                                                                    \
	X(dk_usable, "PyDictKeysObject.dk_usable", "")                                                                \
	X(dk_nentries, "PyDictKeysObject.dk_nentries", "")                                                            \
	X(dk_indices, "PyDictKeysObject.dk_indices", "")                                                              \
	X(gen_name, "PyGenObject.gi_name", "gen_object.gi_name")                                                      \
	X(gen_frame, "PyGenObject.gi_iframe|PyGenObject.gi_frame", "gen_object.gi_iframe")                            \
	X(gen_frame_state, "PyGenObject.gi_frame_state", "gen_object.gi_frame_state")                                 \
	X(gen_code, "PyGenObject.gi_code", "")                                                                        \
	/* a frame as an object: fo_frame leads to the frame, or, up to 3.10, to the code; fo_size: its size without frame */ \
	X(fo_frame, "PyFrameObject.f_frame|PyFrameObject.f_code", "")                                                 \
	X(fo_size, "PyFrameObject._f_frame_data|PyFrameObject.__size__", "")                                          \
	X(deque_left, "dequeobject.leftblock", "")                                                                    \
	X(deque_left_index, "dequeobject.leftindex", "")                                                              \
	X(deque_spare, "dequeobject.freeblocks", "")                                                                  \
	/* gc, relative to in_gc (3.8: rt_gc) */                                                                      \
	X(gc_generations, "_gc_runtime_state.generations|_gc_runtime_state.young", "")                                \
	X(gc_generation0, "_gc_runtime_state.generation0", "")                                                        \
	X(gc_permanent, "_gc_runtime_state.permanent_generation", "")                                                 \
	X(gc_collecting, "_gc_runtime_state.collecting", "gc.collecting")                                             \
	X(gc_generation_size, "gc_generation.__size__", "")                                                           \
	X(gc_head_size, "PyGC_Head.__size__", "")                                                                     \
	/* allocator tables */                                                                                        \
	X(alloc_size, "PyMemAllocatorEx.__size__", "")                                                                \
	X(alloc_ctx, "PyMemAllocatorEx.ctx", "")                                                                      \
	X(alloc_malloc, "PyMemAllocatorEx.malloc", "")                                                                \
	X(alloc_calloc, "PyMemAllocatorEx.calloc", "")                                                                \
	X(alloc_realloc, "PyMemAllocatorEx.realloc", "")                                                              \
	X(alloc_free, "PyMemAllocatorEx.free", "")                                                                    \
	X(arena_alloc, "PyObjectArenaAllocator.alloc", "")                                                            \
	X(arena_free, "PyObjectArenaAllocator.free", "")                                                              \
	X(debug_api_alloc, "debug_alloc_api_t.alloc", "")                                                             \
	/* obmalloc; ob_* relative to its state (3.12+) */                                                            \
	X(ob_state_size, "_obmalloc_state.__size__", "")                                                              \
	X(ob_used, "_obmalloc_state.pools.used", "")                                                                  \
	X(ob_arenas, "_obmalloc_state.mgmt.arenas", "")                                                               \
	X(ob_maxarenas, "_obmalloc_state.mgmt.maxarenas", "")                                                         \
	X(ob_usable_arenas, "_obmalloc_state.mgmt.usable_arenas", "")                                                 \
	X(ob_narenas, "_obmalloc_state.mgmt.narenas_currently_allocated", "")                                         \
	X(ob_highwater, "_obmalloc_state.mgmt.narenas_highwater", "")                                                 \
	X(ob_raw_blocks, "_obmalloc_state.mgmt.raw_allocated_blocks", "")                                             \
	X(ar_size, "arena_object.__size__", "")                                                                       \
	X(ar_address, "arena_object.address", "")                                                                     \
	X(ar_pool_address, "arena_object.pool_address", "")                                                           \
	X(ar_nfreepools, "arena_object.nfreepools", "")                                                               \
	X(ar_ntotalpools, "arena_object.ntotalpools", "")                                                             \
	X(ar_freepools, "arena_object.freepools", "")                                                                 \
	X(po_size, "pool_header.__size__", "")                                                                        \
	X(po_count, "pool_header.ref.count", "")                                                                      \
	X(po_freeblock, "pool_header.freeblock", "")                                                                  \
	X(po_nextpool, "pool_header.nextpool", "")                                                                    \
	X(po_arenaindex, "pool_header.arenaindex", "")                                                                \
	X(po_szidx, "pool_header.szidx", "")                                                                          \
	X(po_nextoffset, "pool_header.nextoffset", "")                                                                \
	X(po_maxnextoffset, "pool_header.maxnextoffset", "")

/* Where pymalloc keeps its state. */
enum obmalloc_place {
	OBMALLOC_STATIC = 1,   /* static variables (<= 3.11) */
	OBMALLOC_INLINE = 2,   /* in the interpreter (3.12) */
	OBMALLOC_POINTER = 3,  /* interp->obmalloc points at it (3.13+) */
};

struct layout {
	/* Facts of a version that are no offsets (layout.c). */
	uint64_t tag_mask;          /* AND-ed to the executable of a frame */
	uint32_t instr_kind;        /* enum instr_kind */
	uint32_t owner_shim;        /* frames with owner >= this are no Python frames; 255: none */
	enum obmalloc_place obmalloc_place;
	/* Generated. */
	uint32_t minor;             /* of 3.minor */
	uint32_t arena_size, pool_size, pool_overhead, alignment, size_classes;
#define X(field, path, debug) uint32_t field;
	LAYOUT_FIELDS(X)
#undef X
};

/* The layout of a version, patch level included. -ENOTSUP if the version is not in the table. */
int layout_find(uint32_t version_hex, struct layout *ret_layout);

/* A value that a build of this version may have instead (a distribution's patch): field is offsetof(struct layout, ...). Rows that
 * apply to the version and the field are numbered from 0; -ENOENT after the last. */
int layout_alternative(uint32_t version_hex, size_t field, size_t index, uint32_t *ret_value);

/* struct _Py_DebugOffsets, first member of _PyRuntime from 3.13. */
#define DEBUG_OFFSETS_MAX 1024
struct debug_offsets {
	uint32_t version_hex;
	bool free_threaded;
};

/* Its head: -ENOENT if the cookie is not there. size >= 24. */
int debug_offsets_head(const uint8_t *bytes, size_t size, struct debug_offsets *ret_head);
/* Overrides the fields of layout that the struct knows. It is positional: parsed by the minor in layout. -EPROTO if a value is out of
 * bounds or bytes is too short (layout unchanged), -ENOENT if this minor has none. */
int debug_offsets_apply(const uint8_t *bytes, size_t size, struct layout *layout);
/* The inverse, to make recorded memory for tests: writes the struct that says what layout says. -ENOENT, -EPROTO (too small). */
int debug_offsets_fill(const struct layout *layout, uint32_t version_hex, uint8_t *bytes, size_t size);
/* Bytes the struct has in this minor, 0 if none. */
size_t debug_offsets_size(uint32_t minor);
