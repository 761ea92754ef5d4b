/* SPDX-License-Identifier: MIT */
/* Images of real processes, however their files are hidden, and of files that are none. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <cmocka.h>

#include "target/image.h"
#include "target/proc.h"
#include "target_process.h"
#include "tiny_elf.h"

#define PYTHON "/usr/bin/python3"

static int open_python(pid_t pid, struct image **ret_image, struct err *err)
{
	_cleanup_(maps_freep) struct maps *maps = NULL;
	int r = maps_load(pid, &maps);

	return r < 0 ? r : image_open_python(pid, maps, ret_image, err);
}

/* The bytes that the image says are at addr are those in the target's memory. */
static void check_text(pid_t pid, const struct image *image, raddr_t addr)
{
	_cleanup_(closep) int mem = -1;
	uint8_t disk[64], memory[64];
	uint64_t offset;
	char path[32];

	snprintf(path, sizeof(path), "/proc/%d/mem", (int)pid);
	mem = open(path, O_RDONLY | O_CLOEXEC);
	assert_int_equal(pread(mem, memory, sizeof(memory), (off_t)addr.v), sizeof(memory));
	assert_int_equal(image_read(image, addr, disk, sizeof(disk)), sizeof(disk));
	assert_memory_equal(disk, memory, sizeof(disk));
	assert_int_equal(image_file_offset(image, addr, &offset), 0);
	assert_true(image_is_text(image, addr));
}

static void check_python_image(pid_t pid, const struct image *image)
{
	struct image_symbol runtime, function, covering;
	raddr_t start;
	const char *name;
	uint64_t size;
	struct stat st;

	assert_int_equal(image_symbol(image, "_PyRuntime", &runtime), 0);
	assert_true(runtime.size > 600);
	assert_false(image_is_text(image, runtime.addr));
	assert_int_equal(image_symbol(image, "PyObject_Malloc", &function), 0);
	check_text(pid, image, function.addr);
	assert_int_equal(image_symbol_at(image, raddr_add(function.addr, 1), &name, &covering), 0);
	assert_string_equal(name, "PyObject_Malloc");
	assert_int_equal(image_function_before(image, raddr_add(function.addr, 1), &start, &size), 0);
	assert_true(raddr_eq(start, function.addr) && size == function.size);
	assert_int_equal(image_symbol(image, "no such symbol", &function), -ENOENT);
	assert_int_equal(image_symbol(image, "", &function), -ENOENT);
	assert_int_equal(image_section(image, ".text", &start, &size), 0);
	assert_true(image_is_text(image, start) && image_is_text(image, raddr_add(start, (int64_t)size - 1)));
	assert_int_equal(image_section(image, ".no", &start, &size), -ENOENT);
	assert_int_equal(stat(image_open_path(image), &st), 0);
	assert_int_equal(image_is_pie(image) ? 0 : image_bias(image), 0);
	assert_true(strlen(image_build_id(image)) == 40 || !image_build_id(image)[0]);
}

static void test_every_python(void **state)
{
	struct target_python list[TARGET_PYTHONS_MAX];
	size_t n = target_pythons(list);

	(void)state;
	assert_true(n > 0);
	for (size_t i = 0; i < n; i++) {
		_cleanup_(target_stopp) pid_t pid = target_start_python(list[i].command);
		_cleanup_(image_freep) struct image *image = NULL;
		struct err err = { 0 };

		print_message("%s\n", list[i].label);
		assert_true(pid > 0);
		assert_int_equal(open_python(pid, &image, &err), 0);
		assert_false(image_is_deleted(image));
		check_python_image(pid, image);
	}
}

static void copy_file(const char *from, const char *to)
{
	_cleanup_(closep) int in = open(from, O_RDONLY | O_CLOEXEC);
	_cleanup_(closep) int out = open(to, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0755);
	char buf[65536];
	ssize_t n;

	while ((n = read(in, buf, sizeof(buf))) > 0)
		assert_int_equal(write(out, buf, (size_t)n), n);
	assert_int_equal(n, 0);
}

static void test_deleted_and_replaced(void **state)
{
	char dir[] = "/tmp/leaksnoop-test-XXXXXX", path[64];
	_cleanup_(target_stopp) pid_t pid = -1;

	(void)state;
	assert_non_null(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/python", dir);
	copy_file(PYTHON, path);
	pid = target_start_python(path);
	for (int replaced = 0; replaced < 2; replaced++) {
		_cleanup_(image_freep) struct image *image = NULL;
		int fd;

		unlink(path);
		if (replaced) {
			fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0755);
			assert_int_equal(write(fd, "#!/bin/sh\n", 10), 10);
			close(fd);
		}
		assert_int_equal(open_python(pid, &image, NULL), 0);
		assert_true(image_is_deleted(image));
		assert_string_equal(image_path(image), path);
		check_python_image(pid, image);
	}
	unlink(path);
	rmdir(dir);
}

static void test_mount_namespace(void **state)
{
	_cleanup_(target_stopp) pid_t pid = target_start_hidden(PYTHON);
	_cleanup_(image_freep) struct image *image = NULL;

	(void)state;
	if (pid < 0)
		skip();
	assert_int_not_equal(access("/mnt/hidden", F_OK), 0);
	assert_int_equal(open_python(pid, &image, NULL), 0);
	assert_string_equal(image_path(image), "/mnt/hidden");
	check_python_image(pid, image);
}

static void test_not_python(void **state)
{
	static const char *const arguments[] = { "-c", "echo; kill -STOP $$", NULL };
	_cleanup_(target_stopp) pid_t pid = target_start("/bin/sh", arguments);
	struct image *image = NULL;
	struct err err = { 0 };

	(void)state;
	assert_int_equal(open_python(pid, &image, &err), -ENOEXEC);
	assert_non_null(strstr(err.what, "not a Python"));
	assert_true(err.hint[0]);
	assert_null(image);
}

static void test_gone_zombie_kernel(void **state)
{
	_cleanup_(maps_freep) struct maps *empty = NULL;
	struct image *image = NULL;
	struct proc_stat stat;
	struct err err = { 0 };
	pid_t pid = fork();

	(void)state;
	if (pid == 0)
		_exit(0);
	do
		assert_int_equal(proc_stat_read(pid, &stat), 0);
	while (stat.state != 'Z');
	assert_int_equal(open_python(pid, &image, &err), -ESRCH);
	assert_non_null(strstr(err.what, "zombie"));
	waitpid(pid, NULL, 0);
	assert_int_equal(open_python(pid, &image, NULL), -ESRCH);
	assert_int_equal(maps_parse("", 0, &empty), 0);
	assert_int_equal(image_open_python(0x3fffffff, empty, &image, &err), -ESRCH);
	assert_true(err.hint[0]);
	if (proc_stat_read(2, &stat) == 0 && !strcmp(stat.comm, "kthreadd")) {
		assert_int_equal(open_python(2, &image, &err), -ENOEXEC);
		assert_non_null(strstr(err.what, "kernel thread"));
	}
	assert_null(image);
}

static void test_open_at(void **state)
{
	_cleanup_(maps_freep) struct maps *maps = NULL;
	_cleanup_(image_freep) struct image *libc = NULL;
	_cleanup_(image_freep) struct image *self = NULL;
	struct image *none = NULL;
	struct image_symbol symbol;
	struct err err;
	int local = 0;

	(void)state;
	assert_int_equal(maps_load(getpid(), &maps), 0);
	assert_int_equal(image_open_at(getpid(), maps, (uintptr_t)stdout, &libc, NULL), 0);
	assert_int_equal(image_symbol(libc, "mallinfo2", &symbol), 0);
	assert_true(image_is_pie(libc) && image_is_text(libc, symbol.addr));
	assert_int_equal(image_symbol(libc, "_IO_2_1_stdout_", &symbol), 0);
	assert_true(symbol.addr.v == (uintptr_t)stdout);
	assert_int_equal(image_open_at(getpid(), maps, (uintptr_t)test_open_at, &self, NULL), 0);
	assert_true(image_is_executable(self));
	assert_int_equal(image_symbol(self, "main", &symbol), 0);
	assert_int_equal(image_open_at(getpid(), maps, (uintptr_t)&local, &none, &err), -ENOENT);
	assert_null(none);
}

static void test_tiny(void **state)
{
	static const uint8_t code[32] = { 0xc3, [1 ... 15] = 0x90, 0x31, 0xc0, 0xc3 };
	static const struct tiny_function functions[] = { { "first", 0, 1 }, { "second", 16, 3 } };
	_cleanup_(closep) int fd = -1;
	_cleanup_(image_freep) struct image *image = NULL;
	struct image_symbol symbol;
	uint8_t file[TINY_MAX], buf[64];
	uint64_t size, align, offset;
	raddr_t start;

	(void)state;
	fd = tiny_elf_fd(file, tiny_elf(file, code, sizeof(code), functions, 2));
	assert_int_equal(image_open_fd(fd, "tiny", &image, NULL), 0);
	assert_false(image_is_pie(image) || image_is_executable(image));
	assert_true(image_is_stripped(image));
	assert_string_equal(image_build_id(image), "000102030405060708090a0b0c0d0e0f10111213");
	assert_int_equal(image_symbol(image, "second", &symbol), 0);
	assert_true(symbol.addr.v == TINY_CODE + 16 && symbol.size == 3);
	assert_int_equal(image_function_before(image, RADDR(TINY_CODE + 31), &start, &size), 0);
	assert_true(start.v == TINY_CODE + 16 && size == 3);
	assert_int_equal(image_function_before(image, RADDR(TINY_CODE + 15), &start, &size), 0);
	assert_true(start.v == TINY_CODE && size == 1);
	assert_int_equal(image_function_before(image, RADDR(TINY_CODE - 1), &start, &size), -ENOENT);
	assert_int_equal(image_tls(image, &size, &align), 0);
	assert_true(size == 0x28 && align == 8);
	assert_int_equal(image_file_offset(image, RADDR(TINY_CODE + 31), &offset), 0);
	assert_int_equal(offset, 0x101f);
	assert_int_equal(image_file_offset(image, RADDR(TINY_CODE + 32), &offset), -ENOENT);
	assert_int_equal(image_read(image, RADDR(TINY_CODE + 30), buf, sizeof(buf)), 2);
	assert_int_equal(image_read(image, RADDR(TINY_BASE - 1), buf, sizeof(buf)), -ENOENT);
}

/* Whatever is cut off or overwritten: an error or an image, never a crash. */
static void test_broken_files(void **state)
{
	static const uint8_t code[16] = { 0xc3 };
	static const struct tiny_function functions[] = { { "f", 0, 1 } };
	uint8_t file[TINY_MAX];
	size_t size = tiny_elf(file, code, sizeof(code), functions, 1);

	(void)state;
	for (size_t cut = 0; cut < 0x700; cut += 7) {
		_cleanup_(closep) int fd = tiny_elf_fd(file, cut);
		_cleanup_(image_freep) struct image *image = NULL;
		struct image_symbol symbol;

		if (image_open_fd(fd, "cut", &image, NULL) == 0)
			image_symbol(image, "f", &symbol);
	}
	for (size_t at = 0; at < 0x700; at++) {
		_cleanup_(image_freep) struct image *image = NULL;
		_cleanup_(closep) int fd = -1;
		uint8_t old = file[at];
		struct image_symbol symbol;
		uint64_t length;
		raddr_t start;

		file[at] = 0xff;
		fd = tiny_elf_fd(file, size);
		file[at] = old;
		if (image_open_fd(fd, "broken", &image, NULL) < 0)
			continue;
		image_symbol(image, "f", &symbol);
		image_section(image, ".text", &start, &length);
		image_function_before(image, RADDR(TINY_CODE), &start, &length);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_tiny), cmocka_unit_test(test_broken_files), cmocka_unit_test(test_open_at),
		cmocka_unit_test(test_every_python), cmocka_unit_test(test_deleted_and_replaced),
		cmocka_unit_test(test_mount_namespace), cmocka_unit_test(test_not_python),
		cmocka_unit_test(test_gone_zombie_kernel),
	};

	return cmocka_run_group_tests_name("image", tests, NULL, NULL);
}
