// SPDX-License-Identifier: Apache-2.0

package nspawn

import (
	"path/filepath"
	"slices"
	"strings"

	"github.com/outband/outband/engine"
)

// rebootStatus is what systemd-nspawn --keep-unit exits with when its machine is to
// be rebooted, so that the unit is started again.
const rebootStatus = "133"

// unit returns the restart policy of the unit that a systemd-nspawn runs in, and
// whether it is started again when its machine is to be rebooted.
//
// A20 (docs/threat-model.md): of which unit it is, the cgroup of systemd-nspawn
// says, which is not its machine's.
func unit(h *engine.Host, pid int) (restart string, reboots bool) {
	name := unitOf(h.Cgroups(pid))
	if name == "" {
		return "", false
	}
	settings := map[string][]string{}
	for _, path := range unitFiles(h, name) {
		if b, err := h.ReadFile(path, 0); err == nil {
			ParseUnit(string(b), settings)
		}
	}
	if all := settings["Restart"]; len(all) > 0 {
		restart = all[len(all)-1]
	}
	prevents := slices.Contains(settings["RestartPreventExitStatus"], rebootStatus)
	forces := slices.Contains(settings["RestartForceExitStatus"], rebootStatus)
	return restart, !prevents && (forces || restart == "always" || restart == "on-failure")
}

// unitOf returns the service that a path of a cgroup is in: the innermost.
func unitOf(groups []string) (name string) {
	for _, path := range groups {
		for part := range strings.SplitSeq(path, "/") {
			if strings.HasSuffix(part, ".service") {
				name = part
			}
		}
	}
	return name
}

// unitFiles are the files that say what a unit is: the first that there is, with
// its own name or that of its template, and what is dropped in (systemd.unit(5)).
func unitFiles(h *engine.Host, name string) (files []string) {
	names := []string{name}
	if at := strings.IndexByte(name, '@'); at >= 0 {
		names = append(names, name[:at+1]+".service")
	}
	var more []string
	for _, n := range names {
		for _, dir := range []string{"/etc/systemd/system", "/run/systemd/system", "/run/systemd/transient", "/usr/local/lib/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system"} {
			if mode, err := h.Kind(filepath.Join(dir, n)); err == nil && !mode.IsDir() && len(files) == 0 {
				files = append(files, filepath.Join(dir, n))
			}
			drops, err := h.ReadDir(filepath.Join(dir, n+".d"), 0)
			for _, drop := range drops {
				if err == nil && strings.HasSuffix(drop, ".conf") {
					more = append(more, filepath.Join(dir, n+".d", drop))
				}
			}
		}
	}
	return append(files, more...)
}

// ParseUnit adds to settings what a file of a unit has in its section [Service].
func ParseUnit(text string, settings map[string][]string) {
	section := ""
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		key, value, ok := strings.Cut(line, "=")
		switch {
		case strings.HasPrefix(line, "["):
			section = line
		case !ok || section != "[Service]" || strings.HasPrefix(line, "#") || strings.HasPrefix(line, ";"):
		case strings.TrimSpace(value) == "":
			delete(settings, strings.TrimSpace(key))
		default:
			key = strings.TrimSpace(key)
			settings[key] = append(settings[key], strings.Fields(value)...)
		}
	}
}

// Flags are the options of a command line of systemd-nspawn, without the command
// that it runs inside.
func Flags(args []string) (flags []string) {
	for i := 1; i < len(args); i++ {
		arg := args[i]
		if arg == "--" || !strings.HasPrefix(arg, "-") {
			break
		}
		flags = append(flags, arg)
		// Short ones that have a value, as the next word.
		if len(arg) == 2 && strings.Contains("DiMupESZL", arg[1:]) && i+1 < len(args) {
			i++
			flags = append(flags, args[i])
		}
	}
	return flags
}

// StopSignal is what systemd-nspawn asks its machine to stop with: by
// --kill-signal, or as systemd understands it where it boots one; "" where it
// kills it.
func StopSignal(args []string) string {
	flags := Flags(args)
	if signal := engine.Flag(flags, "--kill-signal"); signal != "" {
		return engine.SignalName(signal)
	}
	boots := func(flag string) bool {
		return flag == "--boot" || len(flag) > 1 && flag[0] == '-' && flag[1] != '-' && strings.Trim(flag[1:], "abnqxU") == "" && strings.Contains(flag, "b")
	}
	if slices.ContainsFunc(flags, boots) {
		return "SIGRTMIN+3"
	}
	return ""
}
