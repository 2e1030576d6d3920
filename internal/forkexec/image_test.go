// SPDX-License-Identifier: Apache-2.0

package forkexec

import (
	"bytes"
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/outband/outband/internal/sys"
)

// returnCode is a program that exits with code.
func returnCode(code int) []byte {
	p := newProgram(nil)
	p.onFailure(next)
	p.call(StepNone, unix.SYS_EXIT_GROUP, num(code))
	data, err := p.link()
	if err != nil {
		panic(err) // no label is missing
	}
	return data
}

func TestImageIsELF(t *testing.T) {
	data := returnCode(0)
	file, err := sealed(data)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	f, err := elf.NewFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if f.Type != elf.ET_EXEC || uint16(f.Machine) != elfMachine || f.Class != elf.ELFCLASS64 || f.Data != elf.ELFDATA2LSB {
		t.Errorf("%v", f.FileHeader)
	}
	const align = 0x10000
	want := []elf.ProgHeader{
		{Type: elf.PT_LOAD, Flags: elf.PF_R | elf.PF_X, Off: 0, Vaddr: 0x400000, Filesz: f.Entry - 0x400000 + uint64(len(code()))},
		{Type: elf.PT_LOAD, Flags: elf.PF_R | elf.PF_W, Off: align, Vaddr: dataBase, Filesz: uint64(len(data))},
		{Type: elf.PT_GNU_STACK, Flags: elf.PF_R | elf.PF_W},
	}
	if len(f.Progs) != len(want) {
		t.Fatalf("%d segments", len(f.Progs))
	}
	for i, p := range f.Progs {
		w := want[i]
		w.Paddr, w.Memsz, w.Align = w.Vaddr, w.Filesz, align
		if p.ProgHeader != w {
			t.Errorf("segment %d is  %+v\nshould be %+v", i, p.ProgHeader, w)
		}
	}
	segment := func(i int) []byte { b, _ := io.ReadAll(f.Progs[i].Open()); return b }
	if text := segment(0); !bytes.Equal(text[f.Entry-0x400000:], code()) {
		t.Error("the interpreter is not at the entry")
	}
	if !bytes.Equal(segment(1), data) {
		t.Error("the data segment is not the program")
	}
}

// TestImageIsSealed is A5 for the ordinary case. (Mutants that lost: each of
// the seals left out.)
func TestImageIsSealed(t *testing.T) {
	file, err := sealed(returnCode(42))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	seals, err := unix.FcntlInt(file.Fd(), unix.F_GET_SEALS, 0)
	if want := unix.F_SEAL_SEAL | unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_WRITE; err != nil || seals&want != want {
		t.Errorf("seals %#x, %v", seals, err)
	}
	if err := checkUnwritable(file); err != nil {
		t.Error(err)
	}
	if _, code := runFile(t, &exec.Cmd{Path: "/proc/self/fd/3", ExtraFiles: []*os.File{file}}, nil); code != 42 {
		t.Errorf("exit code %d", code)
	}
}

// checkUnwritable tries to change an image in every way that a file can be.
func checkUnwritable(file *os.File) error {
	before, err := io.ReadAll(io.NewSectionReader(file, 0, 1<<20))
	if err != nil {
		return err
	}
	fds := []int{int(file.Fd())}
	path := fmt.Sprintf("/proc/self/fd/%d", file.Fd())
	for _, flags := range []int{unix.O_WRONLY, unix.O_RDWR, unix.O_RDWR | unix.O_TRUNC} {
		if fd, err := unix.Open(path, flags|unix.O_CLOEXEC, 0); err == nil { // a memory file opens, and refuses then
			defer unix.Close(fd)
			fds = append(fds, fd)
		}
	}
	for _, fd := range fds {
		var done []string
		try := func(what string, err error) {
			if err == nil {
				done = append(done, what)
			}
		}
		_, err := unix.Pwrite(fd, []byte("x"), 0)
		try("write", err)
		_, err = unix.Pwrite(fd, []byte("x"), 1<<20)
		try("append", err)
		try("truncate", unix.Ftruncate(fd, 1))
		try("grow", unix.Ftruncate(fd, 1<<20))
		try("punch", unix.Fallocate(fd, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 0, 4096))
		m, err := unix.Mmap(fd, 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
		if try("map", err); err == nil {
			_ = unix.Munmap(m)
		}
		if len(done) > 0 {
			return fmt.Errorf("an image can be changed: %v", done)
		}
	}
	after, err := io.ReadAll(io.NewSectionReader(file, 0, 1<<20))
	if err != nil || !bytes.Equal(before, after) {
		return fmt.Errorf("the image has changed, %v", err)
	}
	return nil
}

const memfdNoExec = "/proc/sys/vm/memfd_noexec"

// TestMemfdNoExec sets vm.memfd_noexec in a pid namespace that is made for it
// and dies with it (the setting is the namespace's own since 6.6), as root and
// as root of a user namespace. (Mutant that lost: no FsconfigSetFlag ro.)
func TestMemfdNoExec(t *testing.T) {
	need(t, os.Geteuid() == 0, "root")
	major, minor := sys.Release()
	need(t, major > 6 || major == 6 && minor >= 6, "Linux 6.6")
	before, err := os.ReadFile(memfdNoExec)
	need(t, err == nil, memfdNoExec)
	for _, rootless := range []bool{false, true} {
		for _, value := range []string{"1", "2"} {
			t.Run(fmt.Sprintf("rootless=%v/%s", rootless, value), func(t *testing.T) {
				c := roleCommand(t, "noexec", "OUTBAND_TEST_NOEXEC="+value)
				c.SysProcAttr.Cloneflags = unix.CLONE_NEWPID | unix.CLONE_NEWNS
				if rootless {
					c.SysProcAttr.Cloneflags |= unix.CLONE_NEWUSER
					identity := []syscall.SysProcIDMap{{ContainerID: 0, HostID: 0, Size: 1}}
					c.SysProcAttr.UidMappings, c.SysProcAttr.GidMappings = identity, identity
				}
				if err := runTied(c); err != nil {
					t.Error(err)
				}
			})
		}
	}
	if after, _ := os.ReadFile(memfdNoExec); !bytes.Equal(before, after) {
		t.Errorf("the machine's own setting was %s and is %s", before, after)
	}
}

// roleNoExec makes and runs an image where memory files must not be executed.
func roleNoExec() error {
	value := os.Getenv("OUTBAND_TEST_NOEXEC")
	if os.Getpid() != 1 {
		return errors.New("not in a pid namespace of my own")
	}
	if err := os.WriteFile(memfdNoExec, []byte(value), 0); err != nil {
		return err
	}
	fd, err := unix.MemfdCreate("probe", unix.MFD_CLOEXEC|unix.MFD_EXEC)
	if refused := errors.Is(err, unix.EACCES); refused != (value == "2") {
		return fmt.Errorf("memfd_create: %w", err)
	}
	unix.Close(fd)
	file, err := sealed(returnCode(42))
	if err != nil {
		return err
	}
	defer file.Close()
	if err := checkUnwritable(file); err != nil {
		return err
	}
	if value == "2" {
		if err := checkReadOnly(file); err != nil {
			return err
		}
	}
	c := &exec.Cmd{Path: "/proc/self/fd/3", ExtraFiles: []*os.File{file}}
	if err := c.Run(); c.ProcessState == nil || c.ProcessState.ExitCode() != 42 {
		return fmt.Errorf("the image: %w", err)
	}
	return wholeSession()
}

// checkReadOnly finds file on a file system that is read-only for its owner too.
func checkReadOnly(file *os.File) error {
	var fs unix.Statfs_t
	if err := unix.Fstatfs(int(file.Fd()), &fs); err != nil {
		return err
	}
	if fs.Type != unix.TMPFS_MAGIC {
		return fmt.Errorf("the image is on a file system of type %#x", fs.Type)
	}
	path := fmt.Sprintf("/proc/self/fd/%d", file.Fd())
	for _, flags := range []int{unix.O_WRONLY, unix.O_RDWR} {
		if _, err := unix.Open(path, flags|unix.O_CLOEXEC, 0); !errors.Is(err, unix.EROFS) {
			return fmt.Errorf("open for writing: %w", err)
		}
	}
	if err := file.Chmod(0o777); !errors.Is(err, unix.EROFS) {
		return fmt.Errorf("chmod: %w", err)
	}
	return nil
}

// wholeSession runs a command in the caller's own namespaces.
func wholeSession() error {
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	defer cancel()
	s, err := Start(ctx, &Spec{
		Paths: []string{"/bin/sh"}, Args: []string{"sh", "-c", "exit 43"}, Stdin: null, Stdout: null, Stderr: null,
	})
	if err != nil {
		return err
	}
	if status, err := s.Wait(); err != nil || status.Code != 43 || status.Left {
		return fmt.Errorf("a session: %+v, %w", status, err)
	}
	return nil
}
