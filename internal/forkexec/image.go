// SPDX-License-Identifier: Apache-2.0

package forkexec

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Layout of an image in file and memory. 64 KiB is the largest page size of
// the architectures served, so that one layout does for all; the holes take no
// memory.
const (
	segmentAlign = 0x10000
	textBase     = 0x400000
	elfHeader    = 64
	elfSegment   = 56
	textOffset   = elfHeader + 3*elfSegment
)

// image returns a static ELF executable: the interpreter and the data segment
// of a program. The text segment comes first, the data at file offset
// segmentAlign; between them is a hole.
func image(data []byte) (head, tail []byte) {
	text, le := code(), binary.LittleEndian
	b := append(make([]byte, 0, textOffset+len(text)), "\x7fELF\x02\x01\x01"...)
	b = append(b, make([]byte, 9)...)
	b = le.AppendUint16(b, 2) // ET_EXEC
	b = le.AppendUint16(b, elfMachine)
	b = le.AppendUint32(b, 1) // EV_CURRENT
	b = le.AppendUint64(b, textBase+textOffset)
	b = le.AppendUint64(b, elfHeader) // program headers follow
	b = le.AppendUint64(b, 0)         // no sections
	b = le.AppendUint32(b, 0)         // flags
	for _, n := range [...]uint16{elfHeader, elfSegment, 3, 0, 0, 0} {
		b = le.AppendUint16(b, n)
	}
	segment := func(kind, flags uint32, offset, address, size uint64) {
		b = le.AppendUint32(le.AppendUint32(b, kind), flags)
		for _, n := range [...]uint64{offset, address, address, size, size, segmentAlign} {
			b = le.AppendUint64(b, n)
		}
	}
	const load, stack, x, w, r = 1, 0x6474e551, 1, 2, 4
	segment(load, r|x, 0, textBase, uint64(textOffset+len(text)))
	segment(load, r|w, segmentAlign, dataBase, uint64(len(data)))
	segment(stack, r|w, 0, 0, 0)
	return append(b, text...), data
}

// sealed writes an image to memory that nobody can change any more and returns
// it as an executable file.
//
// A5 (docs/threat-model.md): whatever of the container gets hold of the exe
// link of a joining process finds an image that is sealed and belongs to this
// session alone, never the binary on the host's disk.
func sealed(data []byte) (*os.File, error) {
	head, tail := image(data)
	fd, err := unix.MemfdCreate("outband", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING|unix.MFD_EXEC)
	if errors.Is(err, unix.EINVAL) { // before 6.3 every memfd is executable
		fd, err = unix.MemfdCreate("outband", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	}
	if errors.Is(err, unix.EACCES) { // vm.memfd_noexec=2
		return onReadOnlyMount(head, tail)
	}
	if err != nil {
		return nil, fmt.Errorf("memfd_create: %w", err)
	}
	f := os.NewFile(uintptr(fd), "outband")
	if err := writeImage(fd, head, tail); err != nil {
		f.Close()
		return nil, err
	}
	const seals = unix.F_SEAL_SEAL | unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_WRITE
	if _, err := unix.FcntlInt(f.Fd(), unix.F_ADD_SEALS, seals); err != nil {
		f.Close()
		return nil, fmt.Errorf("seal memfd: %w", err)
	}
	return f, nil
}

// writeImage puts the two parts of an image where its headers say they are.
func writeImage(fd int, head, tail []byte) error {
	if _, err := unix.Pwrite(fd, head, 0); err != nil {
		return fmt.Errorf("write image: %w", err)
	}
	if _, err := unix.Pwrite(fd, tail, segmentAlign); err != nil {
		return fmt.Errorf("write image: %w", err)
	}
	return nil
}

// onReadOnlyMount is sealed for where executable memory files are forbidden:
// a tmpfs of our own that is attached nowhere and whose superblock is made
// read-only once the image is in it. It needs CAP_SYS_ADMIN and Linux 5.2.
func onReadOnlyMount(head, tail []byte) (_ *os.File, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("vm.memfd_noexec forbids executable memory, and a tmpfs cannot be had: %w", err)
		}
	}()
	fs, err := unix.Fsopen("tmpfs", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fs)
	if err := unix.FsconfigSetString(fs, "mode", "0700"); err != nil {
		return nil, err
	}
	if err := unix.FsconfigCreate(fs); err != nil {
		return nil, err
	}
	root, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(root)
	w, err := unix.Openat(root, "outband", unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_CLOEXEC, 0o500)
	if err != nil {
		return nil, err
	}
	err = writeImage(w, head, tail)
	unix.Close(w) // a file open for writing can neither be executed nor made read-only
	if err != nil {
		return nil, err
	}
	if err := unix.FsconfigSetFlag(fs, "ro"); err != nil {
		return nil, err
	}
	if err := unix.FsconfigReconfigure(fs); err != nil {
		return nil, err
	}
	fd, err := unix.Openat(root, "outband", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), "outband"), nil
}
