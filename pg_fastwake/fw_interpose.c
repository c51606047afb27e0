/*-------------------------------------------------------------------------
 *
 * fw_interpose.c
 *	  Replaces libc functions in the executable's global offset table.
 *
 * PostgreSQL has no hooks around its waits.  Its executable reaches libc through
 * slots of its global offset table; this file points some of them elsewhere.
 * Calls made by shared libraries (libpq, OpenSSL, other extensions) are not
 * touched.  Done once, in the postmaster, all slots or none.
 *
 * The function a slot led to comes from dlsym, never from the slot: in a lazily
 * bound executable the slot holds a PLT stub whose first call would overwrite
 * our patch.  A slot that holds neither libc's function nor a stub of the
 * executable was patched by somebody else, who is then called by us.
 *
 * Portions Copyright (c) 2026, the pg_fastwake authors
 *
 * SPDX-License-Identifier: PostgreSQL
 *-------------------------------------------------------------------------
 */
#include "pg_fastwake.h"

#include <dlfcn.h>
#include <elf.h>
#include <link.h>
#include <sys/mman.h>
#include <unistd.h>

#define FW_SLOTS_MAX 16			/* slots of all hooks together */

#if defined(__x86_64__)
#define FW_RELOC_SLOT	R_X86_64_JUMP_SLOT
#define FW_RELOC_GLOB	R_X86_64_GLOB_DAT
#elif defined(__aarch64__)
#define FW_RELOC_SLOT	R_AARCH64_JUMP_SLOT
#define FW_RELOC_GLOB	R_AARCH64_GLOB_DAT
#endif

typedef struct Slot
{
	void	  **address;
	void	   *ours;
	void	   *before;
} Slot;

/* What the dynamic section of the executable says. */
typedef struct Image
{
	Elf64_Addr	base;
	Elf64_Addr	text_start,
				text_end;
	const Elf64_Rela *plt;
	size_t		plt_size;
	const Elf64_Rela *rela;
	size_t		rela_size;
	const Elf64_Sym *symbols;
	const char *strings;
} Image;

static Slot slots[FW_SLOTS_MAX];
static int	nslots = 0;

static void
read_dynamic(Image *image, const Elf64_Dyn *dyn)
{
	for (; dyn->d_tag != DT_NULL; dyn++)
	{
		switch (dyn->d_tag)
		{
			case DT_JMPREL:
				image->plt = (const void *) dyn->d_un.d_ptr;
				break;
			case DT_PLTRELSZ:
				image->plt_size = dyn->d_un.d_val;
				break;
			case DT_RELA:
				image->rela = (const void *) dyn->d_un.d_ptr;
				break;
			case DT_RELASZ:
				image->rela_size = dyn->d_un.d_val;
				break;
			case DT_SYMTAB:
				image->symbols = (const void *) dyn->d_un.d_ptr;
				break;
			case DT_STRTAB:
				image->strings = (const void *) dyn->d_un.d_ptr;
				break;
		}
	}
}

/* dl_iterate_phdr callback: the first object is the executable. */
static int
read_image(struct dl_phdr_info *info, size_t size, void *arg)
{
	Image	   *image = arg;

	image->base = info->dlpi_addr;
	for (int i = 0; i < info->dlpi_phnum; i++)
	{
		const Elf64_Phdr *ph = &info->dlpi_phdr[i];

		if (ph->p_type == PT_DYNAMIC)
			read_dynamic(image, (const void *) (image->base + ph->p_vaddr));
		else if (ph->p_type == PT_LOAD && (ph->p_flags & PF_X))
		{
			image->text_start = image->base + ph->p_vaddr;
			image->text_end = image->text_start + ph->p_memsz;
		}
	}
	return 1;
}

/* Add the slots of NAME found in one relocation table to the list. */
static bool
collect(const Image *image, const Elf64_Rela *table, size_t bytes,
		const FwHook *hook)
{
#ifdef FW_RELOC_SLOT
	for (size_t i = 0; i < bytes / sizeof(*table); i++)
	{
		unsigned long type = ELF64_R_TYPE(table[i].r_info);
		const Elf64_Sym *sym;

		if (type != FW_RELOC_SLOT && type != FW_RELOC_GLOB)
			continue;
		sym = &image->symbols[ELF64_R_SYM(table[i].r_info)];
		if (strcmp(image->strings + sym->st_name, hook->name) != 0)
			continue;
		if (nslots == FW_SLOTS_MAX)
			return false;
		slots[nslots].address = (void **) (image->base + table[i].r_offset);
		slots[nslots].before = *slots[nslots].address;
		slots[nslots].ours = hook->replacement;
		nslots++;
	}
#endif
	return true;
}

/* Who did this slot lead to: somebody's patch, or libc? */
static void *
predecessor(const Image *image, const Slot *slot, void *libc)
{
	Elf64_Addr	before = (Elf64_Addr) slot->before;

	if (slot->before == libc ||
		(before >= image->text_start && before < image->text_end))
		return libc;
	return slot->before;
}

static bool
collect_hook(const Image *image, const FwHook *hook, const char **reason)
{
	int			first = nslots;
	void	   *libc = dlsym(RTLD_NEXT, hook->name);

	if (libc == NULL)
		libc = dlsym(RTLD_DEFAULT, hook->name);
	if (libc == NULL ||
		!collect(image, image->plt, image->plt_size, hook) ||
		!collect(image, image->rela, image->rela_size, hook) ||
		nslots == first)
	{
		*reason = psprintf("the server's binary does not call %s through its global offset table",
						   hook->name);
		return false;
	}
	*hook->original = predecessor(image, &slots[first], libc);
	return true;
}

/* Store VALUE in the slot, which RELRO may have made read-only; it stays
 * writable until protect_slots(). */
static bool
write_slot(void **address, void *value)
{
	uintptr_t	page = (uintptr_t) sysconf(_SC_PAGESIZE);
	void	   *start = (void *) ((uintptr_t) address & ~(page - 1));

	if (mprotect(start, page, PROT_READ | PROT_WRITE) < 0)
		return false;
	__atomic_store_n(address, value, __ATOMIC_RELEASE);

	return true;
}

/* Is the executable bound at start, its slots therefore read-only? */
static int
relro_range(struct dl_phdr_info *info, size_t size, void *arg)
{
	uintptr_t  *range = arg;

	for (int i = 0; i < info->dlpi_phnum; i++)
	{
		if (info->dlpi_phdr[i].p_type == PT_GNU_RELRO)
		{
			range[0] = info->dlpi_addr + info->dlpi_phdr[i].p_vaddr;
			range[1] = range[0] + info->dlpi_phdr[i].p_memsz;
		}
	}
	return 1;
}

static void
protect_slots(void)
{
	uintptr_t	page = (uintptr_t) sysconf(_SC_PAGESIZE);
	uintptr_t	range[2] = {0, 0};

	dl_iterate_phdr(relro_range, range);
	for (int i = 0; i < nslots; i++)
	{
		uintptr_t	start = (uintptr_t) slots[i].address & ~(page - 1);

		if (start >= range[0] && start + page <= range[1])
			(void) mprotect((void *) start, page, PROT_READ);
	}
}

bool
FwInterpose(const FwHook *hooks, int n, const char **reason)
{
	Image		image;
	int			done;

	memset(&image, 0, sizeof(image));
	nslots = 0;
	dl_iterate_phdr(read_image, &image);
	for (int i = 0; i < n; i++)
	{
		if (!collect_hook(&image, &hooks[i], reason))
			return false;
	}

	for (done = 0; done < nslots; done++)
	{
		if (!write_slot(slots[done].address, slots[done].ours))
			break;
	}
	if (done < nslots)
	{
		*reason = psprintf("mprotect of the global offset table failed: %m");
		while (done-- > 0)
			(void) write_slot(slots[done].address, slots[done].before);
	}
	protect_slots();
	return done == nslots;
}

bool
FwInterposeVerify(void)
{
	for (int i = 0; i < nslots; i++)
	{
		if (__atomic_load_n(slots[i].address, __ATOMIC_ACQUIRE) != slots[i].ours)
			return false;
	}
	return nslots > 0;
}
