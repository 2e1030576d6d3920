// SPDX-License-Identifier: Apache-2.0

package throwaway

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// runShell reads lines and runs the applets they name: a prompt for the demo,
// where there is no other shell. The terminal does the editing. It knows
// neither quotes nor anything else of a shell's language.
func runShell(c *call) int {
	if len(c.args) > 1 {
		return c.fail(errors.New("takes no arguments: it is a prompt for the demo, not a shell"))
	}
	interrupts := make(chan os.Signal, 1)
	signal.Notify(interrupts, unix.SIGINT, unix.SIGQUIT)
	signal.Ignore(unix.SIGTSTP)
	lines, code := readLines(c.in), 0
	for {
		host, _ := os.Hostname()
		dir, _ := os.Getwd()
		fmt.Fprintf(c.out, "%s:%s # ", printable(host), printable(dir))
		select {
		case <-interrupts:
			fmt.Fprintln(c.out)
			continue
		case line, ok := <-lines:
			if !ok {
				fmt.Fprintln(c.out)
				return code
			}
			words := strings.Fields(line)
			if len(words) > 0 && words[0] == "exit" {
				return exitCode(words, code)
			}
			code = c.runLine(words, code)
			drain(interrupts) // they were meant for the command
		}
	}
}

// readLines sends what is read line by line and closes the channel at the end.
func readLines(r io.Reader) <-chan string {
	lines := make(chan string)
	go func() {
		defer close(lines)
		for s := bufio.NewScanner(r); s.Scan(); {
			lines <- s.Text()
		}
	}()
	return lines
}

func drain(c <-chan os.Signal) {
	select {
	case <-c:
	default:
	}
}

// exitCode is what exit is asked for, or else the last command's code.
func exitCode(words []string, last int) int {
	if len(words) > 1 {
		if n, err := strconv.ParseUint(words[1], 10, 8); err == nil {
			return int(n)
		}
	}
	return last
}

// runLine runs one command and returns its exit code.
func (c *call) runLine(words []string, last int) int {
	switch {
	case len(words) == 0:
		return last
	case words[0] == "cd":
		if err := os.Chdir(append(words, "/")[1]); err != nil {
			return c.fail(err)
		}
		return 0
	case applets()[words[0]] == nil:
		fmt.Fprintf(c.errOut, "%s: not found; try help\n", printable(words[0]))
		return 127
	}
	cmd := exec.Command("/proc/self/exe", words[1:]...)
	cmd.Args[0] = words[0]
	// No input: what is typed meanwhile is for the next line.
	cmd.Stdout, cmd.Stderr = c.out, c.errOut
	err := cmd.Run()
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit) && exit.ExitCode() >= 0:
		return exit.ExitCode()
	case errors.As(err, &exit):
		fmt.Fprintln(c.out)
		return 130
	case err != nil:
		return c.fail(err)
	}
	return 0
}

// runHelp says what there is.
func runHelp(c *call) int {
	names := append(slices.Collect(maps.Keys(applets())), "cd")
	slices.Sort(names)
	names = slices.DeleteFunc(names, func(n string) bool { return n == "init" || n == "sh" || n == "spawn" })
	fmt.Fprintf(c.out, "%s\n", strings.Join(names, " "))
	return 0
}

func runHostname(c *call) int {
	name, err := os.Hostname()
	if err != nil {
		return c.fail(err)
	}
	fmt.Fprintln(c.out, printable(name))
	return 0
}

// runLs lists directories by name.
func runLs(c *call) int {
	dirs, code := c.args[1:], 0
	if len(dirs) == 0 {
		dirs = []string{"."}
	}
	for _, dir := range dirs {
		entries, err := os.ReadDir(dir)
		if err != nil {
			code = c.fail(err)
		}
		for _, e := range entries {
			name := printable(e.Name())
			if e.IsDir() {
				name += "/"
			}
			fmt.Fprintln(c.out, name)
		}
	}
	return code
}
