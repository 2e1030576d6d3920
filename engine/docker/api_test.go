// SPDX-License-Identifier: Apache-2.0

package docker

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/outband/outband/engine"
	"github.com/outband/outband/internal/procfs"
	"github.com/outband/outband/internal/testutil"
)

// listen has a daemon on a socket that answers each request as told, and returns
// what it was asked for.
func listen(t *testing.T, root string, answer func(path string) string) (asked *[]string) {
	t.Helper()
	path := filepath.Join(root, "run/d.sock")
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	asked = new([]string)
	done := make(chan bool)
	go func() {
		defer close(done)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			line, _ := bufio.NewReader(conn).ReadString('\n')
			words := strings.Fields(line)
			*asked = append(*asked, strings.Join(words[:2], " "))
			_, _ = conn.Write([]byte(answer(words[1])))
			conn.Close()
		}
	}()
	t.Cleanup(func() { l.Close(); <-done })
	return asked
}

const ok = "HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n\r\n"

// docker answers as a daemon with a container that runs and one that has ended.
func dockerAnswers(path string) string {
	switch path {
	case "/containers/json?all=1":
		return ok + fmt.Sprintf(`[{"Id":%q,"Names":["/web"]},{"Id":%q,"Names":["/db","/other/db"]},{"Id":%q,"Names":["/gone"]}]`, webID, dbID, strings.Repeat("a", 64))
	case "/containers/" + webID + "/json":
		return ok + fmt.Sprintf(`{"Id":%q,"Name":"/web","State":{"Status":"running","Running":true,"Pid":11843},"Config":{"StopSignal":"SIGINT"},
			"HostConfig":{"RestartPolicy":{"Name":"on-failure","MaximumRetryCount":2}}}`, webID)
	case "/containers/" + dbID + "/json":
		return ok + fmt.Sprintf(`{"Id":%q,"Name":"/db","State":{"ExitCode":3,"FinishedAt":"2026-11-29T18:58:29Z"},"Config":{},"HostConfig":{"RestartPolicy":{"Name":"always"}}}`, dbID)
	}
	return "HTTP/1.0 404 Not Found\r\n\r\n{}"
}

// asking is a host whose daemon's files are not known, and its engine.
func asking(t *testing.T) (root string, tasks []procfs.Task, e Engine) {
	t.Helper()
	root = testutil.Private(t, "testdata/host")
	if err := os.RemoveAll(filepath.Join(root, "srv")); err != nil {
		t.Fatal(err)
	}
	return root, machine(), Engine{Host: "unix:///run/d.sock"}
}

// TestAsked: the daemon that the caller names is asked; the kernel is too.
func TestAsked(t *testing.T) {
	root, tasks, e := asking(t)
	listen(t, root, dockerAnswers)
	all, err := engine.Recorded(root, tasks).List(context.Background(), []engine.Engine{e})
	if err != nil || len(all) != 2 {
		t.Fatalf("%+v, %v", all, err)
	}
	db, web := all[0], all[1]
	if web.FullName() != "docker:web" || web.Init.PID != 11843 || web.Restart != "on-failure:2" || web.StopSignal != "SIGINT" || !slices.Equal(web.Via, []string{"--host=unix:///run/d.sock"}) {
		t.Errorf("%+v", web)
	}
	if db.FullName() != "docker:db" || db.State != engine.Stopped || db.Exit == nil || db.Exit.Code != 3 || db.Restart != "always" {
		t.Errorf("%+v", db)
	}
	if err := os.WriteFile(filepath.Join(root, "proc/11843/cgroup"), []byte("0::/docker/"+dbID+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if all, err = engine.Recorded(root, tasks).List(context.Background(), []engine.Engine{e}); err != nil || all[1].State != engine.Stopped {
		t.Errorf("a daemon that is wrong about a process: %+v, %v", all, err)
	}
}

// TestAskedLess: nobody is asked again for what is known from files, or for what no
// name means; nor at all for users' containers.
func TestAskedLess(t *testing.T) {
	root, tasks, e := asking(t)
	asked := listen(t, root, dockerAnswers)
	for name, want := range map[string]string{"db": dbID, webID[:12]: webID, "nope": ""} {
		*asked = nil
		all, err := engine.Recorded(root, tasks).Seek(name, "").List(context.Background(), []engine.Engine{e})
		if err != nil || (want == "") != (len(all) == 0) || len(all) > 0 && (len(*asked) != 2 || all[0].ID != want) {
			t.Errorf("%s: %+v, %v, asked %q", name, all, err, *asked)
		}
	}
	*asked = nil
	if _, err := engine.Recorded(root, tasks).Seek("web", "ann").List(context.Background(), []engine.Engine{e}); err != nil || len(*asked) != 0 {
		t.Errorf("%v, asked %q", err, *asked)
	}
	whole := testutil.Private(t, "testdata/host")
	asked = listen(t, whole, dockerAnswers)
	all, err := engine.Recorded(whole, tasks).List(context.Background(), []engine.Engine{e})
	if err != nil || len(all) != 3 || len(*asked) != 2 { // the list, and what is gone
		t.Errorf("%+v, %v, asked %q", all, err, *asked)
	}
}

// TestAsleep: where no daemon runs its socket is left alone: systemd may hold it.
func TestAsleep(t *testing.T) {
	root, tasks, e := asking(t)
	asked := listen(t, root, dockerAnswers)
	tasks[1].NSpid = []int{11734, 7} // a container's
	all, err := engine.Recorded(root, tasks).List(context.Background(), []engine.Engine{e})
	if !errors.Is(err, ErrAsleep) || len(all) != 0 || len(*asked) != 0 {
		t.Errorf("%+v, %v, asked %q", all, err, *asked)
	}
	for _, host := range []string{"", "tcp://127.0.0.1:2375", "ssh://a", "npipe://x", "unix:///run/podman/podman.sock"} {
		if all, err := engine.Recorded(root, machine()).List(context.Background(), []engine.Engine{Engine{host}}); err != nil || len(all) != 0 {
			t.Errorf("%s: %+v, %v", host, all, err)
		}
	}
}

// TestRefusing: a daemon that does not answer, or not well, is told in time, and
// what its files tell counts.
func TestRefusing(t *testing.T) {
	_, tasks, e := asking(t)
	for what, answer := range map[string]string{
		"nothing": "", "no HTTP": "hello\r\n\r\n[]", "forbidden": "HTTP/1.0 403 Forbidden\r\n\r\n{}", "no list": ok + "{}", "no JSON": ok + "[",
		"an id that is a path": ok + `[{"Id":"` + strings.Repeat("../", 21) + `x"}]`, "no end of its head": "HTTP/1.0 200 OK\r\n", "too long": ok + "[" + strings.Repeat(" ", maxAnswer),
	} {
		root := testutil.Private(t, "testdata/host")
		listen(t, root, func(string) string { return answer })
		all, err := engine.Recorded(root, tasks).List(context.Background(), []engine.Engine{e})
		if err == nil || len(all) != 3 {
			t.Errorf("%s: %d containers, %v", what, len(all), err)
		}
	}
	root := testutil.Private(t, "testdata/host")
	release := make(chan bool)
	listen(t, root, func(string) string { <-release; return "" })
	defer close(release)
	start := time.Now()
	all, err := engine.Recorded(root, tasks).List(context.Background(), []engine.Engine{e})
	if !errors.Is(err, os.ErrDeadlineExceeded) || len(all) != 3 || time.Since(start) > 5*time.Second {
		t.Errorf("a silent daemon: %d containers, %v after %v", len(all), err, time.Since(start))
	}
	root = testutil.Private(t, "testdata/host")
	if err := os.WriteFile(filepath.Join(root, "run"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if all, err := engine.Recorded(root, tasks).List(context.Background(), []engine.Engine{Engine{"unix:///run"}}); err == nil || len(all) != 3 {
		t.Errorf("no socket: %d containers, %v", len(all), err)
	}
}

func FuzzParseAnswer(f *testing.F) {
	f.Add([]byte(ok+"[]"), "web")
	f.Add([]byte(ok+`[{"Id":"`+strings.Repeat("../", 21)+`x","Names":["/web"]}]`), "web")
	f.Fuzz(func(t *testing.T, b []byte, name string) {
		body, err := parseAnswer(b)
		if err != nil {
			return
		}
		ids, _ := ParseList(body, name)
		for _, id := range ids {
			if len(id) != 64 || strings.ContainsAny(id, "/. \r\n") {
				t.Errorf("%q", id)
			}
		}
	})
}
