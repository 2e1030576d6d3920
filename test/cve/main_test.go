// SPDX-License-Identifier: Apache-2.0

package cve

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/outband/outband/internal/testutil"
	"github.com/outband/outband/internal/throwaway"
	"github.com/outband/outband/test/cve/rig"
)

func TestMain(m *testing.M) {
	rig.Main(m, rig.Attackers{
		"bomb":        attackBomb,
		"deadfs":      attackDeadfs,
		"deadroot":    attackDeadroot,
		"descriptors": attackDescriptors,
		"hog":         attackHog,
		"keyholder":   attackKeyholder,
		"keys":        attackKeys,
		"looker":      attackLooker,
		"lurker":      attackLurker,
		"namespaced":  attackNamespaced,
		"outside":     attackOutside,
		"pts":         attackPts,
		"report":      attackReport,
		"robber":      attackRobber,
		"venom":       attackVenom,
		"type":        attackType,
		"where":       attackWhere,
		"writer":      attackWriter,
	})
}

// begin is the start of each test. What is left behind fails it.
func begin(t *testing.T) {
	t.Helper()
	testutil.RequireRoot(t)
	if !rig.Nested() {
		testutil.NoLeaks(t)
	}
	t.Cleanup(func() { rig.Reap(t) })
}

// A box is a container whose first process is an attacker, and the lines
// between it and the test.
type box struct {
	*throwaway.Container
	t     testing.TB
	in    *os.File
	lines *bufio.Reader
	out   *os.File
}

// newBox starts a container whose init runs args.
func newBox(t testing.TB, spec throwaway.Spec, args []string) *box {
	t.Helper()
	inR, inW, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	outR, outW, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { inW.Close(); outR.Close() })
	spec.Args, spec.Stdin, spec.Stdout, spec.Stderr = args, inR, outW, os.Stderr
	b := &box{Container: testutil.Throwaway(t, spec), t: t, in: inW, out: outR, lines: bufio.NewReader(outR)}
	inR.Close()
	outW.Close()
	return b
}

// say sends the attacker a line.
func (b *box) say(format string, args ...any) {
	b.t.Helper()
	if _, err := fmt.Fprintf(b.in, format+"\n", args...); err != nil {
		b.t.Fatal(err)
	}
}

// hear waits for a line of the attacker's; ok is false at its end.
func (b *box) hear() (line string, ok bool) {
	b.t.Helper()
	if err := b.out.SetReadDeadline(time.Now().Add(rig.Deadline)); err != nil {
		b.t.Fatal(err)
	}
	line, err := b.lines.ReadString('\n')
	if err == io.EOF {
		return "", false
	}
	if err != nil {
		b.t.Fatal("the attacker is silent: ", err)
	}
	return strings.TrimSuffix(line, "\n"), true
}

// ask sends a line and reads the answer, in JSON.
func (b *box) ask(answer any, format string, args ...any) {
	b.t.Helper()
	b.say(format, args...)
	line, ok := b.hear()
	if !ok {
		b.t.Fatal("the attacker has ended")
	}
	if err := json.Unmarshal([]byte(line), answer); err != nil {
		b.t.Fatalf("the attacker says %q: %v", line, err)
	}
}

// path is a file of the container's as the host sees it.
func (b *box) path(name string) string { return rootPath(b.Pid(), name) }

func rootPath(pid int, name string) string {
	return filepath.Join(fmt.Sprintf("/proc/%d/root", pid), name)
}

// pid is a number as an argument of the tool.
func (b *box) pid() string { return fmt.Sprint(b.Pid()) }

// stay keeps an attacker that is an init alive until the test is done with it.
func stay() error {
	_, err := io.Copy(io.Discard, os.Stdin)
	return err
}
