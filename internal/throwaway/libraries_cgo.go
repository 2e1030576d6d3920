// SPDX-License-Identifier: Apache-2.0

//go:build cgo

package throwaway

import (
	"debug/elf"
	"io"
	"os"
	"slices"
	"strings"
)

// libraries lists the files without which the running binary cannot be
// executed: its interpreter and what that has mapped. With cgo a test binary
// may be dynamic (-race, or package net); the program itself is not.
func libraries() ([]string, error) {
	exe, err := elf.Open("/proc/self/exe")
	if err != nil {
		return nil, err
	}
	defer exe.Close()
	var files []string
	for _, part := range exe.Progs {
		if part.Type != elf.PT_INTERP {
			continue
		}
		name, err := io.ReadAll(part.Open())
		if err != nil {
			return nil, err
		}
		files = append(files, strings.TrimRight(string(name), "\x00"))
	}
	if files == nil {
		return nil, nil
	}
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(maps)) {
		// proc_pid_maps(5): the path is the last of six fields.
		fields := strings.Fields(line)
		if len(fields) == 6 && strings.Contains(fields[5], ".so") {
			files = append(files, fields[5])
		}
	}
	slices.Sort(files)
	return slices.Compact(files), nil
}
