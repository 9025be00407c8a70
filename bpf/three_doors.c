// SPDX-License-Identifier: MIT OR GPL-2.0-only
/* One door to a live map: three_doors MAP COMMAND [ARGUMENT]... Entries are printed as CSV. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <bpf/bpf.h>
#include "three_doors.h"
#include "three_doors.skel.h"

static void print(__u16 port, const struct traffic *seen)
{
	printf("%u,%llu,%llu\n", port, seen->packets, seen->bytes);
}

static int lookup(int map, __u16 port)
{
	struct traffic seen;
	int err = bpf_map_lookup_elem(map, &port, &seen);

	if (!err)
		print(port, &seen);
	return err;
}

/* A key that somebody deletes at the wrong moment sends the walk back to the first entry. */
static int iterate(int map)
{
	__u16 port, next;
	int err = bpf_map_get_next_key(map, NULL, &next); /* NULL, not a key: the first entry */
	int found;

	puts("key,packets,bytes");
	while (!err) {
		port = next;
		err = bpf_map_get_next_key(map, &port, &next);
		found = lookup(map, port);
		if (found && found != -ENOENT) /* deleted since: somebody else was faster */
			return found;
	}
	return err == -ENOENT ? 0 : err; /* ENOENT: there is no next key */
}

static int clear(int map)
{
	__u16 port, next;
	int err = bpf_map_get_next_key(map, NULL, &next);

	while (!err) {
		port = next;
		err = bpf_map_get_next_key(map, &port, &next); /* before its place is gone */
		bpf_map_delete_elem(map, &port);
	}
	return err == -ENOENT ? 0 : err;
}

/* Have the skeleton use the map that is there, instead of making one of its own. */
static int enter(struct three_doors_bpf *skel, int fd)
{
	struct bpf_map *declared = skel->maps.ports;
	struct bpf_map_info live = {};
	__u32 size = sizeof(live);
	int err;

	if (fd < 0)
		return fd;
	err = bpf_obj_get_info_by_fd(fd, &live, &size);
	if (!err &&
	    (live.type != bpf_map__type(declared) || live.key_size != bpf_map__key_size(declared) ||
	     live.value_size != bpf_map__value_size(declared)))
		err = -EINVAL;
	if (!err)
		err = bpf_map__reuse_fd(declared, fd);
	close(fd);
	bpf_program__set_autoload(skel->progs.count_ports, false); /* one counts already */
	bpf_program__set_autoload(skel->progs.count_runs, false);
	return err ?: three_doors_bpf__load(skel);
}

static void usage(void)
{
	fprintf(stderr, "usage: three_doors MAP dump | clear | lookup PORT | delete PORT |\n"
			"       update PORT PACKETS BYTES [any | noexist | exist] | pin PATH\n"
			"MAP is an id, or the path of a pin.\n");
	exit(2);
}

static unsigned long long number(const char *text, unsigned long long most)
{
	char *end;
	unsigned long long value;

	errno = 0;
	value = strtoull(text, &end, 10);
	if (errno || end == text || *end || *text == '-' || value > most) {
		fprintf(stderr, "%s is no number from 0 to %llu\n", text, most);
		exit(2);
	}
	return value;
}

static int opened(const char *map)
{
	return *map == '/' ? bpf_obj_get(map) : bpf_map_get_fd_by_id(number(map, -1U));
}

static __u64 flag(const char *word)
{
	static const char *const words[] = { "any", "noexist", "exist" }; /* BPF_ANY is 0 */
	__u64 i;

	for (i = 0; i < 3; i++)
		if (!strcmp(word, words[i]))
			return i;
	usage();
	return 0;
}

static int run(int map, int words, char **word)
{
	const char *command = word[0];
	struct traffic new;
	__u16 port;

	if (words == 1 && !strcmp(command, "dump"))
		return iterate(map);
	if (words == 1 && !strcmp(command, "clear"))
		return clear(map);
	if (words < 2)
		usage();
	port = number(word[1], 65535);
	if (words == 2 && !strcmp(command, "lookup"))
		return lookup(map, port);
	if (words == 2 && !strcmp(command, "delete"))
		return bpf_map_delete_elem(map, &port);
	if (words < 4 || words > 5 || strcmp(command, "update"))
		usage();
	new.packets = number(word[2], -1ULL);
	new.bytes = number(word[3], -1ULL);
	return bpf_map_update_elem(map, &port, &new, flag(words == 5 ? word[4] : "any"));
}

int main(int words, char **word)
{
	struct three_doors_bpf *skel;
	int err;

	if (words < 3)
		usage();
	skel = three_doors_bpf__open();
	if (!skel) {
		perror("open");
		return 1;
	}
	err = enter(skel, opened(word[1]));
	if (!err && words == 4 && !strcmp(word[2], "pin"))
		err = bpf_map__pin(skel->maps.ports, word[3]);
	else if (!err)
		err = run(bpf_map__fd(skel->maps.ports), words - 2, word + 2);
	if (err)
		fprintf(stderr, "%s: %s\n", word[2], strerror(-err));
	three_doors_bpf__destroy(skel);
	return err ? 1 : 0;
}
