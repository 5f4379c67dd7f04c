//! Looks into a file before the dynamic linker does.
//!
//! `dlopen` dies of SIGBUS on a truncated library, and runs the constructors of any library before a symbol can be looked
//! up in it. So the file is read first: it must be a whole shared library for this machine that defines
//! `quire_pager_entry`. The symbol is looked for where the dynamic linker looks, in the tables that PT_DYNAMIC names, so
//! that a library whose section headers were stripped is as good as any.
//!
//! What this does not prove: that the code is benign, that the relocations are sane, or that nobody replaces the file
//! between the look and the load. A plugin is trusted code; this guards against accidents.

use std::fs::{self, File};
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use object::NativeEndian;
use object::elf;
use object::read::elf::{Dyn, FileHeader, GnuHashTable, HashTable, ProgramHeader, Sym};
use object::read::{ReadCache, ReadRef};

use crate::error::LoadError;

#[cfg(target_pointer_width = "64")]
type Header = elf::FileHeader64<NativeEndian>;
#[cfg(target_pointer_width = "32")]
type Header = elf::FileHeader32<NativeEndian>;
type Segment = <Header as FileHeader>::ProgramHeader;
type Symbol = <Header as FileHeader>::Sym;
type Entry = <Header as FileHeader>::Dyn;

const ENDIAN: NativeEndian = NativeEndian;

/// The machine number of this build; nothing where it is not known here, and then it is left to the dynamic linker.
const THIS_MACHINE: Option<elf::Machine> = if cfg!(target_arch = "x86_64") {
    Some(elf::EM_X86_64)
} else if cfg!(target_arch = "aarch64") {
    Some(elf::EM_AARCH64)
} else if cfg!(any(target_arch = "riscv64", target_arch = "riscv32")) {
    Some(elf::EM_RISCV)
} else if cfg!(target_arch = "x86") {
    Some(elf::EM_386)
} else if cfg!(target_arch = "arm") {
    Some(elf::EM_ARM)
} else if cfg!(target_arch = "powerpc64") {
    Some(elf::EM_PPC64)
} else if cfg!(target_arch = "s390x") {
    Some(elf::EM_S390)
} else {
    None
};

/// Refuses everything that is not a whole shared library for this machine with a symbol `quire_pager_entry`.
pub(crate) fn check(path: &Path) -> Result<(), LoadError> {
    let file = open_regular(path)?;
    let data = ReadCache::new(file);
    Elf::parse(path, &data)?.check()
}

/// Opens the file if it is a regular one. It is asked before it is opened: opening a pipe would wait for its writer.
fn open_regular(path: &Path) -> Result<File, LoadError> {
    let unreadable = |error| LoadError::Unreadable {
        path: path.into(),
        error,
    };
    let kind = fs::metadata(path).map_err(unreadable)?.file_type();
    if !kind.is_file() {
        let what = if kind.is_dir() {
            "a directory"
        } else if kind.is_fifo() {
            "a pipe"
        } else if kind.is_socket() {
            "a socket"
        } else {
            "a device"
        };
        return Err(LoadError::NotRegular {
            path: path.into(),
            what,
        });
    }
    File::open(path).map_err(unreadable)
}

/// A file that has an ELF header for this machine, and its segments.
struct Elf<'a, R> {
    path: &'a Path,
    data: R,
    segments: &'a [Segment],
}

impl<'a, R: ReadRef<'a>> Elf<'a, R> {
    /// Reads the headers. The identification is compared by hand, so that each difference gets its own sentence.
    fn parse(path: &'a Path, data: R) -> Result<Self, LoadError> {
        let ident = data.read_bytes_at(0, 16).ok().filter(|id| id.starts_with(b"\x7fELF"));
        let Some(ident) = ident else {
            let starts_well = data.read_bytes_at(0, 4).is_ok_and(|id| id == b"\x7fELF");
            return Err(if starts_well {
                truncated(path, "the ELF header is not whole")
            } else {
                LoadError::NotElf { path: path.into() }
            });
        };
        check_ident(path, ident)?;
        let header = data
            .read_at::<Header>(0)
            .map_err(|()| truncated(path, "the ELF header is not whole"))?;
        check_kind(path, header)?;
        if usize::from(header.e_phentsize(ENDIAN)) != size_of::<Segment>() {
            return Err(damaged(path, "its program headers have an unknown size"));
        }
        let segments = data
            .read_slice_at(wide(header.e_phoff(ENDIAN)), usize::from(header.e_phnum(ENDIAN)))
            .map_err(|()| truncated(path, "the program headers end past the end of the file"))?;
        Ok(Self { path, data, segments })
    }

    fn check(&self) -> Result<(), LoadError> {
        self.check_segments()?;
        if self.defines(quire_abi::QUIRE_PAGER_ENTRY)? {
            Ok(())
        } else {
            Err(LoadError::NoEntry { path: self.path.into() })
        }
    }

    /// Everything that the dynamic linker maps or walks must be in the file, and in the order it relies on.
    fn check_segments(&self) -> Result<(), LoadError> {
        let len = self
            .data
            .len()
            .map_err(|()| truncated(self.path, "its length cannot be told"))?;
        let mut mapped_to = 0;
        for (i, segment) in self.segments.iter().enumerate() {
            let loaded = segment.p_type(ENDIAN) == elf::PT_LOAD;
            if !loaded && segment.p_type(ENDIAN) != elf::PT_DYNAMIC {
                continue;
            }
            let (offset, filesz) = segment.file_range(ENDIAN);
            if offset.checked_add(filesz).is_none_or(|end| end > len) {
                return Err(truncated(
                    self.path,
                    &format!("segment {i} ends past the end of the file"),
                ));
            }
            let (start, memsz) = (wide(segment.p_vaddr(ENDIAN)), wide(segment.p_memsz(ENDIAN)));
            let end = start.checked_add(memsz);
            let in_order = !loaded || start >= mapped_to;
            match end {
                Some(end) if in_order && filesz <= memsz => mapped_to = if loaded { end } else { mapped_to },
                _ => {
                    return Err(damaged(
                        self.path,
                        &format!("segment {i} does not fit in the address space"),
                    ));
                }
            }
        }
        if mapped_to == 0 {
            Err(damaged(self.path, "it has no segment to load"))
        } else {
            Ok(())
        }
    }

    /// Whether the dynamic symbols have a function of that name (with its zero) that is defined here.
    fn defines(&self, name: &[u8]) -> Result<bool, LoadError> {
        let dynamic = self.dynamic()?;
        let address = |tag| dynamic.iter().find(|d| d.tag(ENDIAN) == tag).map(|d| d.val(ENDIAN));
        let table = |tag| address(tag).and_then(|a| self.loaded_at(a));
        let (Some(symtab), Some(strtab)) = (table(elf::DT_SYMTAB), table(elf::DT_STRTAB)) else {
            return Ok(false);
        };

        let count = match (table(elf::DT_GNU_HASH), table(elf::DT_HASH)) {
            (Some(hash), _) => {
                let hash =
                    GnuHashTable::<Header>::parse(ENDIAN, hash).map_err(|e| damaged(self.path, &e.to_string()))?;
                hash.symbol_table_length(ENDIAN)
            }
            (None, Some(hash)) => {
                let hash = HashTable::<Header>::parse(ENDIAN, hash).map_err(|e| damaged(self.path, &e.to_string()))?;
                Some(hash.symbol_table_length())
            }
            (None, None) => None,
        };
        let Some(count) = count.and_then(|n| usize::try_from(n).ok()) else {
            return Ok(false);
        };
        let symbols: &[Symbol] = symtab
            .read_slice_at(0, count)
            .map_err(|()| damaged(self.path, "its symbols end past their segment"))?;
        Ok(symbols
            .iter()
            .any(|s| is_function(s) && name_at(strtab, s.st_name(ENDIAN)).is_some_and(|n| n.starts_with(name))))
    }

    /// The entries of PT_DYNAMIC up to DT_NULL. The dynamic linker reads them where they are loaded, so they must be.
    fn dynamic(&self) -> Result<&'a [Entry], LoadError> {
        let Some(segment) = self.segments.iter().find(|s| s.p_type(ENDIAN) == elf::PT_DYNAMIC) else {
            return Err(damaged(self.path, "it has no dynamic segment"));
        };
        let bytes = self.loaded_at(wide(segment.p_vaddr(ENDIAN)));
        let count = segment.file_range(ENDIAN).1 / size_of::<Entry>() as u64;
        let entries = usize::try_from(count)
            .ok()
            .and_then(|n| bytes?.read_slice_at::<Entry>(0, n).ok());
        let end = entries.and_then(|e| e.iter().position(|d| d.tag(ENDIAN) == elf::DT_NULL));
        match (entries, end) {
            (Some(entries), Some(end)) => Ok(&entries[..end]),
            _ => Err(damaged(self.path, "its dynamic segment is not loaded, or has no end")),
        }
    }

    /// The bytes of the file that will be at `address`, up to the end of their segment.
    fn loaded_at(&self, address: u64) -> Option<&'a [u8]> {
        self.segments
            .iter()
            .filter(|s| s.p_type(ENDIAN) == elf::PT_LOAD)
            .find_map(|s| {
                let skip = address.checked_sub(wide(s.p_vaddr(ENDIAN)))?;
                let (offset, filesz) = s.file_range(ENDIAN);
                let left = filesz.checked_sub(skip).filter(|n| *n > 0)?;
                self.data.read_bytes_at(offset.checked_add(skip)?, left).ok()
            })
    }
}

fn check_ident(path: &Path, ident: &[u8]) -> Result<(), LoadError> {
    let (class, order) = (ident[4], ident[5]);
    let this_class = if cfg!(target_pointer_width = "64") {
        elf::ELFCLASS64
    } else {
        elf::ELFCLASS32
    };
    let this_order = if cfg!(target_endian = "little") {
        elf::ELFDATA2LSB
    } else {
        elf::ELFDATA2MSB
    };
    let other = |what: &str| {
        Err(LoadError::OtherMachine {
            path: path.into(),
            what: what.into(),
        })
    };
    if class != this_class.0 {
        return other("its word size differs");
    }
    if order != this_order.0 {
        return other("its byte order differs");
    }
    Ok(())
}

fn check_kind(path: &Path, header: &Header) -> Result<(), LoadError> {
    let (kind, machine) = (header.e_type(ENDIAN), header.e_machine(ENDIAN));
    if let Some(this) = THIS_MACHINE.filter(|this| *this != machine) {
        let what = format!("its machine number is {}, this one is {}", machine.0, this.0);
        return Err(LoadError::OtherMachine {
            path: path.into(),
            what,
        });
    }
    let what = match kind {
        elf::ET_DYN => return Ok(()),
        elf::ET_REL => "an object file",
        elf::ET_EXEC => "a program",
        elf::ET_CORE => "a core dump",
        _ => "of an unknown kind",
    };
    Err(LoadError::NotLibrary {
        path: path.into(),
        what,
    })
}

fn is_function(symbol: &Symbol) -> bool {
    symbol.st_shndx(ENDIAN) != elf::SHN_UNDEF
        && matches!(symbol.st_bind(), elf::STB_GLOBAL | elf::STB_WEAK)
        && matches!(symbol.st_type(), elf::STT_FUNC | elf::STT_GNU_IFUNC)
}

fn name_at(strings: &[u8], offset: u32) -> Option<&[u8]> {
    strings.get(usize::try_from(offset).ok()?..)
}

/// A word of this machine's ELF class, which may be narrower.
fn wide(word: impl Into<u64>) -> u64 {
    word.into()
}

fn truncated(path: &Path, what: &str) -> LoadError {
    LoadError::Truncated {
        path: path.into(),
        what: what.into(),
    }
}

fn damaged(path: &Path, what: &str) -> LoadError {
    LoadError::Damaged {
        path: path.into(),
        what: what.into(),
    }
}
