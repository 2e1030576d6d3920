// SPDX-License-Identifier: Apache-2.0

package all_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/outband/outband/engine"
	"github.com/outband/outband/engine/all"
)

// ending is a context that ends when it has been looked at so many times.
type ending struct {
	context.Context
	looks atomic.Int64
}

func (c *ending) Err() error {
	if c.looks.Add(-1) < 0 {
		return context.DeadlineExceeded
	}
	return nil
}

// TestLate: an adapter whose time is over looks at no more containers, and returns
// those that it has seen and that these are not all. Of none it says that it has
// ended because its process was not looked for.
func TestLate(t *testing.T) {
	const many = 40
	id := func(i int) string { return fmt.Sprintf("%064x", i) }
	var stored []string
	for i := range many {
		stored = append(stored, fmt.Sprintf(`{"id":%q}`, id(i)))
	}
	for name, files := range map[string]func(i int) (path, text string){
		"docker": func(i int) (string, string) {
			return docker + id(i) + "/config.v2.json", fmt.Sprintf(`{"ID":%q,"Name":"/c%d","State":{}}`, id(i), i)
		},
		"podman": func(int) (string, string) {
			return "/var/lib/containers/storage/overlay-containers/containers.json", "[" + strings.Join(stored, ",") + "]"
		},
		"containerd": func(i int) (string, string) { return tasks + fmt.Sprint(i, "/init.pid"), "1" },
		"lxc":        func(i int) (string, string) { return fmt.Sprintf("/var/lib/lxc/%d/config", i), "" },
		"nspawn":     func(i int) (string, string) { return fmt.Sprintf("/var/lib/machines/%d/x", i), "" },
		"oci":        func(i int) (string, string) { return fmt.Sprintf("/run/runc/%d/state.json", i), runc },
	} {
		root := t.TempDir()
		for i := range many {
			path, text := files(i)
			put(t, root+path, text)
			if name == "containerd" {
				put(t, root+tasks+fmt.Sprint(i, "/config.json"), "{}")
			}
		}
		e := engine.ByPrefix(all.Engines(), name)[0]
		look := func(ctx context.Context) (int, error) {
			list, err := e.List(ctx, engine.Recorded(root, nil))
			return len(list), err
		}
		if n, err := look(t.Context()); n != many || err != nil {
			t.Fatalf("%s: %d containers, %v", name, n, err)
		}
		before := 0
		for _, looks := range []int64{0, many / 2} {
			ctx := &ending{Context: context.Background()}
			ctx.looks.Store(looks)
			n, err := look(ctx)
			if !errors.Is(err, engine.ErrDeadline) || n < before || n > int(looks) || looks > 0 && n < many/4 {
				t.Errorf("%s, after %d looks: %d containers, %v", name, looks, n, err)
			}
			before = n
		}
	}
}
