// SPDX-License-Identifier: Apache-2.0

package docker

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/outband/outband/engine"
)

// ErrAsleep is a daemon that is not asked because that would start it.
var ErrAsleep = errors.New("no dockerd runs, and none is woken")

// maxAnswer is how much of an answer is read, bytes.
const maxAnswer = 4 << 20

// asked returns the containers of the daemon that listens where the caller says,
// without those that are known from its files. A daemon on another machine has
// none here.
func (e Engine) asked(ctx context.Context, h *engine.Host, known []engine.Container) ([]engine.Container, error) {
	at, ok := strings.CutPrefix(e.Host, "unix://")
	if !ok || !h.Asks("") || strings.Contains(filepath.Base(at), "podman") { // whose containers have an adapter of their own
		return nil, nil
	}
	at, err := url.PathUnescape(at)
	if err != nil {
		return nil, err
	}
	if err := awake(ctx, h); err != nil {
		return nil, err
	}
	d := api{ctx: ctx, h: h, socket: at, host: e.Host, known: map[string]bool{}, until: time.Now().Add(askTime)}
	for _, c := range known {
		d.known[c.ID] = true
	}
	all, err := d.list()
	if err != nil {
		err = fmt.Errorf("%s: %w", at, err)
	}
	return all, err
}

// awake tells whether a daemon runs, root's or the caller's: who dials a socket
// that systemd holds for a daemon starts it.
func awake(ctx context.Context, h *engine.Host) error {
	for _, uid := range []uint32{0, uint32(os.Geteuid())} {
		if daemons, err := h.Daemons(ctx, "dockerd", uid); err != nil || len(daemons) > 0 {
			return err
		}
	}
	return ErrAsleep
}

// api is a daemon that is asked.
type api struct {
	ctx          context.Context
	h            *engine.Host
	socket, host string
	known        map[string]bool // ids
	until        time.Time
}

// askTime is how long all answers may take, so that there is time left to tell what
// the files say.
const askTime = 200 * time.Millisecond

// list asks for all containers, and then for each that matters.
func (d *api) list() ([]engine.Container, error) {
	b, err := d.get("/containers/json?all=1")
	if err != nil {
		return nil, err
	}
	ids, err := ParseList(b, d.h.Sought())
	if err != nil {
		return nil, err
	}
	var all []engine.Container
	var failed error
	for _, id := range ids {
		if d.known[id] {
			continue
		}
		b, err := d.get("/containers/" + id + "/json")
		if errors.Is(err, errGone) {
			continue
		}
		var c Config
		if err == nil {
			c, err = parseInspect(b)
		}
		if err != nil {
			failed = errors.Join(failed, err)
			continue
		}
		found := (&daemon{h: d.h}).container(c)
		found.Via = Via(nil, d.host)
		all = append(all, found)
	}
	return all, failed
}

// ParseList parses the list of containers: the ids of those that a name could mean,
// or, "", of all.
func ParseList(b []byte, name string) (ids []string, err error) {
	var list []struct {
		ID    string `json:"Id"`
		Names []string
	}
	if err := json.Unmarshal(b, &list); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrFormat, err)
	}
	for _, c := range list {
		if strings.Trim(c.ID, "0123456789abcdef") != "" || len(c.ID) != 64 {
			return nil, fmt.Errorf("%w: an id", ErrFormat)
		}
		means := strings.HasPrefix(c.ID, name)
		for _, n := range c.Names {
			means = means || n == "/"+name
		}
		if means {
			ids = append(ids, c.ID)
		}
	}
	return ids, nil
}

// parseInspect parses what the daemon says of one container: its two files in one.
func parseInspect(b []byte) (Config, error) {
	c, err := ParseConfig(b)
	if err != nil {
		return c, err
	}
	var host struct{ HostConfig json.RawMessage }
	if err = json.Unmarshal(b, &host); err == nil && host.HostConfig != nil {
		c.Restart, err = ParsePolicy(host.HostConfig)
	}
	return c, err
}

// errGone is what the daemon does not know any more.
var errGone = errors.New("there is no such thing")

// get asks the daemon, in the version of its language that it likes best. The
// answer to HTTP/1.0 is not in chunks, and ends with the connection. (Package net is
// not linked: A6, docs/threat-model.md.)
func (d *api) get(path string) ([]byte, error) {
	conn, err := d.h.Dial(d.socket)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	if err := conn.SetDeadline(d.until); err != nil {
		return nil, err
	}
	defer context.AfterFunc(d.ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })()
	if _, err := fmt.Fprintf(conn, "GET %s HTTP/1.0\r\nHost: docker\r\n\r\n", path); err != nil {
		return nil, err
	}
	b, err := io.ReadAll(io.LimitReader(conn, maxAnswer+1))
	if err != nil {
		return nil, err
	}
	return parseAnswer(b)
}

// parseAnswer returns the body of an answer.
func parseAnswer(b []byte) ([]byte, error) {
	head, body, ok := bytes.Cut(b, []byte("\r\n\r\n"))
	line, _, _ := strings.Cut(string(head), "\r\n")
	words := strings.SplitN(line, " ", 3)
	switch {
	case len(b) > maxAnswer:
		return nil, fmt.Errorf("%w: an answer of more than %d bytes", ErrFormat, maxAnswer)
	case !ok || len(words) < 2 || !strings.HasPrefix(words[0], "HTTP/1."):
		return nil, fmt.Errorf("%w: no answer of HTTP's", ErrFormat)
	case words[1] == "404":
		return nil, errGone
	case words[1] != "200":
		return nil, fmt.Errorf("%w: status %.3s", ErrFormat, words[1])
	}
	return body, nil
}
