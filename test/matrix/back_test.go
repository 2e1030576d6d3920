// SPDX-License-Identifier: Apache-2.0

package matrix

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/outband/outband/internal/testutil"
	"github.com/outband/outband/test/lab"
)

// TestBackByEngine: what docker starts again is told with the numbers that docker
// has for it, and by whom.
func TestBackByEngine(t *testing.T) {
	testutil.RequireRoot(t)
	testutil.NoLeaks(t)
	host := open(t, lab.DockerUserNS(), build(t))
	o := lab.Options{Extra: []string{"--restart=always"}, Args: []string{"sleep", "1000000"}}
	c, err := host.Run(t.Context(), "web", lab.Busybox(t), o)
	if err != nil {
		t.Fatal(err)
	}
	old := &target{Container: c, host: host}
	r := old.run(t, host.Command(outband, "power", "docker:web", "reboot", "--force"))
	now, err := dockerPid(t.Context(), host)
	if err != nil || now == c.HostPid {
		t.Fatalf("%d after %d: %v", now, c.HostPid, err)
	}
	if want := fmt.Sprintf("it is back: its init is %d 1, started by docker\n", now); r.Code != 0 || !strings.Contains(r.Out, want) {
		t.Errorf("%+v, want %q", r, want)
	}
}

// TestReplaced: a container of the same name that takes the place of one which is
// being switched off is told, and not touched, though it would be asked, pressed
// and killed were it found by its name.
func TestReplaced(t *testing.T) {
	testutil.RequireRoot(t)
	testutil.NoLeaks(t)
	host := open(t, lab.DockerUserNS(), build(t))
	// It hears, and stays.
	o := lab.Options{Args: []string{"sh", "-c", "trap : TERM; while :; do sleep 0.1; done"}}
	c, err := host.Run(t.Context(), "web", lab.Busybox(t), o)
	if err != nil {
		t.Fatal(err)
	}
	old := &target{Container: c, host: host}
	// The program waits for the first, while its place is taken.
	script := `"$0" power docker:web off --grace 15s > /tmp/said 2>&1 & tool=$!
until ls /run/outband/sessions/*.json >/dev/null 2>&1; do sleep 0.05; done; sleep 1
image=$(docker inspect -f '{{.Image}}' web)
docker rm -f web >/dev/null && docker run -d --pull=never --name web "$image" sleep 1000000 >/dev/null || exit 9
wait $tool; code=$?; cat /tmp/said; exit $code`
	r := old.run(t, host.Command("sh", "-c", script, outband))
	now, err := dockerPid(t.Context(), host)
	if err != nil || now == c.HostPid {
		t.Fatalf("%d after %d: %v: %+v", now, c.HostPid, err, r)
	}
	out := r.Out + r.Err
	if r.Code != 1 || !strings.Contains(out, fmt.Sprintf("its init is %d 1, started by docker", now)) || strings.Contains(out, " press ") {
		t.Errorf("%+v", r)
	}
	state, err := host.Do(t.Context(), "docker", "inspect", "-f", "{{.State.Status}} {{.RestartCount}} {{.State.Pid}}", "web")
	if want := fmt.Sprintf("running 0 %d", now); err != nil || strings.TrimSpace(state) != want {
		t.Errorf("the new one is %q, %v; want %q", state, err, want)
	}
}

// dockerPid is the number of the first process of the container called web.
func dockerPid(ctx context.Context, host *lab.Host) (int, error) {
	out, err := host.Do(ctx, "docker", "inspect", "-f", "{{.State.Pid}}", "web")
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(strings.TrimSpace(out))
}
