// SPDX-License-Identifier: Apache-2.0

package pty

import (
	"errors"
	"io"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func pair(t *testing.T) (master, peer *os.File) {
	t.Helper()
	master, peer, err := Pair()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { master.Close(); peer.Close() })
	return master, peer
}

func TestSize(t *testing.T) {
	master, peer := pair(t)
	want := Size{Rows: 31, Cols: 97}
	if err := SetSize(master, want); err != nil {
		t.Fatal(err)
	}
	if got, err := SizeOf(peer); err != nil || got != want {
		t.Errorf("%v, %v", got, err)
	}
}

// TestFresh compares what is believed of a new terminal with one.
func TestFresh(t *testing.T) {
	_, peer := pair(t)
	got, err := Modes(peer)
	if err != nil {
		t.Fatal(err)
	}
	want := fresh()
	if got.Iflag != want.Iflag || got.Oflag != want.Oflag || got.Lflag != want.Lflag || got.Cc != want.Cc ||
		got.Cflag&(unix.CSIZE|unix.CREAD|unix.PARENB) != want.Cflag&(unix.CSIZE|unix.CREAD|unix.PARENB) {
		t.Errorf("a new terminal is %+v, not %+v", *got, want)
	}
}

// TestRaw: every byte goes through as it is, both ways, and the modes can be put
// back.
func TestRaw(t *testing.T) {
	master, peer := pair(t)
	before, err := Modes(peer)
	if err != nil {
		t.Fatal(err)
	}
	if err := SetModes(peer, Raw(before)); err != nil {
		t.Fatal(err)
	}
	all := make([]byte, 256)
	for i := range all {
		all[i] = byte(i)
	}
	for _, way := range [][2]*os.File{{master, peer}, {peer, master}} {
		if _, err := way[0].Write(all); err != nil {
			t.Fatal(err)
		}
		got := make([]byte, len(all))
		if _, err := io.ReadFull(way[1], got); err != nil || string(got) != string(all) {
			t.Errorf("%q, %v", got, err)
		}
	}
	if err := SetModes(peer, before); err != nil {
		t.Fatal(err)
	}
	if now, err := Modes(peer); err != nil || *now != *before {
		t.Errorf("%+v, %v", now, err)
	}
}

// TestLike takes over what belongs to a keyboard, and not what a program left.
func TestLike(t *testing.T) {
	mine := fresh()
	mine.Cc[unix.VERASE], mine.Cc[unix.VMIN] = 8, 0
	mine.Iflag |= unix.IUTF8
	mine.Iflag &^= unix.ICRNL
	mine.Lflag = 0
	got := Like(&mine)
	want := fresh()
	want.Cc[unix.VERASE] = 8
	want.Iflag |= unix.IUTF8
	if *got != want {
		t.Errorf("%+v, not %+v", *got, want)
	}
}

func TestPeer(t *testing.T) {
	master, peer := pair(t)
	other, err := Peer(master)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if !os.SameFile(info(t, other), info(t, peer)) {
		t.Error("it is another terminal")
	}
	if _, err := Peer(peer); err == nil {
		t.Error("the other end has one as well")
	}
}

func info(t *testing.T, f *os.File) os.FileInfo {
	t.Helper()
	i, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	return i
}

// TestNoTerminal: what is none is told, and a terminal that is not the
// controlling one has no background.
func TestNoTerminal(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	if _, err := SizeOf(r); !errors.Is(err, unix.ENOTTY) || IsTerminal(r) {
		t.Errorf("size of a pipe: %v, a terminal: %v", err, IsTerminal(r))
	}
	if readable, woken := Readable(r, r, time.Millisecond); readable || woken {
		t.Error("an empty pipe can be read, or is at its end")
	}
	master, peer := pair(t)
	if !Foreground(peer) || !IsTerminal(peer) {
		t.Error("a terminal of nobody's has a background")
	}
	if _, err := master.WriteString("abc\n"); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(10 * time.Second); Unread(peer) != 4; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%d bytes wait", Unread(peer))
		}
	}
}
