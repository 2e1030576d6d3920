// SPDX-License-Identifier: Apache-2.0

package throwaway

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// call is one run of an applet. It returns an exit code.
type call struct {
	args        []string // args[0] is the applet's name
	in          io.Reader
	out, errOut io.Writer
}

// applets are the commands inside a container that has nothing but the binary.
// They are as small as tests and the demo allow.
func applets() map[string]func(*call) int {
	return map[string]func(*call) int{
		"init":   runInit,
		"true":   func(*call) int { return 0 },
		"false":  func(*call) int { return 1 },
		"exit":   runExit,
		"sleep":  runSleep,
		"spawn":  runSpawn,
		"echo":   runEcho,
		"cat":    runCat,
		"env":    runEnv,
		"pwd":    runPwd,
		"id":     runID,
		"ps":     runPs,
		"status": runStatus,
		"yes":    runYes,

		"sh":       runShell,
		"ls":       runLs,
		"hostname": runHostname,
		"help":     runHelp,
	}
}

// fail prints err and returns the exit code of failure.
func (c *call) fail(err error) int {
	fmt.Fprintf(c.errOut, "%s: %v\n", c.args[0], err)
	return 1
}

// arg is the first argument, or otherwise.
func (c *call) arg(otherwise string) string {
	if len(c.args) < 2 {
		return otherwise
	}
	return c.args[1]
}

// runExit ends with the status that is its argument.
func runExit(c *call) int {
	code, err := strconv.ParseUint(c.arg("0"), 10, 8)
	if err != nil {
		return c.fail(err)
	}
	return int(code)
}

// runSleep waits for a number of seconds, or "infinity".
func runSleep(c *call) int {
	seconds, err := strconv.ParseFloat(c.arg(""), 64)
	if err != nil {
		return c.fail(err)
	}
	d := time.Duration(math.MaxInt64)
	if seconds < d.Seconds() {
		d = time.Duration(seconds * float64(time.Second))
	}
	time.Sleep(d)
	return 0
}

// runSpawn starts a sleep in a session of its own, prints its number and ends:
// what is left is an orphan in the background, without descriptors.
func runSpawn(c *call) int {
	proc, err := os.StartProcess("/proc/self/exe", []string{"sleep", c.arg("infinity")}, &os.ProcAttr{
		Env: os.Environ(), Sys: &syscall.SysProcAttr{Setsid: true},
	})
	if err != nil {
		return c.fail(err)
	}
	fmt.Fprintln(c.out, proc.Pid)
	return 0
}

func runEcho(c *call) int {
	fmt.Fprintln(c.out, strings.Join(c.args[1:], " "))
	return 0
}

// runCat copies files, or its standard input.
func runCat(c *call) int {
	if len(c.args) < 2 {
		if _, err := io.Copy(c.out, c.in); err != nil {
			return c.fail(err)
		}
		return 0
	}
	for _, name := range c.args[1:] {
		if err := c.copyFile(name); err != nil {
			return c.fail(err)
		}
	}
	return 0
}

func (c *call) copyFile(name string) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.Copy(c.out, f)
	return err
}

func runEnv(c *call) int {
	for _, entry := range os.Environ() {
		fmt.Fprintln(c.out, entry)
	}
	return 0
}

func runPwd(c *call) int {
	// Not os.Getwd, which believes PWD. "(unreachable)" is shown as it is.
	dir, err := syscall.Getwd()
	if err != nil {
		return c.fail(err)
	}
	fmt.Fprintln(c.out, dir)
	return 0
}

func runID(c *call) int {
	groups, err := os.Getgroups()
	if err != nil {
		return c.fail(err)
	}
	slices.Sort(groups)
	text := strings.Trim(strings.ReplaceAll(fmt.Sprint(groups), " ", ","), "[]")
	fmt.Fprintf(c.out, "uid=%d gid=%d groups=%s\n", os.Geteuid(), os.Getegid(), text)
	return 0
}

// runPs lists the processes that /proc shows, with the numbers it gives them.
func runPs(c *call) int {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return c.fail(err)
	}
	fmt.Fprintf(c.out, "%5s %5s %s\n", "PID", "PPID", "COMMAND")
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		ppid, command, err := describe(pid)
		if err != nil {
			continue // it has ended
		}
		fmt.Fprintf(c.out, "%5d %5d %s\n", pid, ppid, command)
	}
	return 0
}

// describe reads a process's parent, and its arguments or else its name.
func describe(pid int) (ppid int, command string, err error) {
	dir := "/proc/" + strconv.Itoa(pid)
	stat, err := os.ReadFile(dir + "/stat")
	if err != nil {
		return 0, "", err
	}
	// The name may hold blanks and parentheses: it ends at the last one.
	open, end := bytes.IndexByte(stat, '('), bytes.LastIndexByte(stat, ')')
	if open < 0 || end < open {
		return 0, "", errors.New("stat without a name")
	}
	fields := strings.Fields(string(stat[end+1:]))
	if len(fields) < 2 {
		return 0, "", errors.New("stat without a parent")
	}
	ppid, err = strconv.Atoi(fields[1])
	command = "[" + string(stat[open+1:end]) + "]"
	if args, _ := os.ReadFile(dir + "/cmdline"); len(args) > 0 {
		command = strings.TrimRight(strings.ReplaceAll(string(args), "\x00", " "), " ")
	}
	return ppid, printable(command), err
}

// printable keeps what other processes wrote from reaching a terminal raw.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if strconv.IsPrint(r) {
			return r
		}
		return '?'
	}, text)
}

// runStatus prints its own /proc/PID/status, which an exec has just shaped.
func runStatus(c *call) int {
	return runCat(&call{[]string{c.args[0], "/proc/self/status"}, c.in, c.out, c.errOut})
}

// runYes writes as fast as it can until nobody reads any more.
func runYes(c *call) int {
	block := bytes.Repeat([]byte(c.arg("y")+"\n"), 4096)
	for {
		if _, err := c.out.Write(block); err != nil {
			return c.fail(err)
		}
	}
}
