// SPDX-License-Identifier: Apache-2.0

package containerd

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"time"

	"github.com/outband/outband/engine"
)

// lives is where the container runtime interface keeps a directory for each container
// of a pod, below the directory of containerd's data.
const lives = "io.containerd.grpc.v1.cri/containers"

// addEnds adds how containers of pods ended.
func addEnds(ctx context.Context, h *engine.Host, data string, all []engine.Container) (err error) {
	if h.Brief() {
		return nil
	}
	for i, c := range all {
		if !c.Pod || c.State != engine.Stopped || c.ID == "." || !filepath.IsLocal(c.ID) || filepath.Base(c.ID) != c.ID {
			continue
		}
		if late := engine.Late(ctx); late != nil {
			return errors.Join(err, late)
		}
		b, rerr := h.ReadFile(filepath.Join(data, lives, c.ID, "status"), 0)
		if errors.Is(rerr, fs.ErrNotExist) {
			continue // of a sandbox, or not by the interface
		}
		if rerr == nil {
			all[i].Exit, rerr = ParseStatus(b)
		}
		if rerr != nil {
			err = errors.Join(err, fmt.Errorf("%s: %w", c.Name, rerr))
		}
	}
	return err
}

// ParseStatus parses a container's status, as the container runtime interface keeps
// it: how it ended, nil where it has not.
func ParseStatus(b []byte) (*engine.Exit, error) {
	var s struct {
		Version              string
		FinishedAt, ExitCode int64
		Reason               string
	}
	if err := json.Unmarshal(b, &s); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrFormat, err)
	}
	if s.Version != "v1" {
		return nil, fmt.Errorf("%w: status of version %q", ErrFormat, s.Version)
	}
	if s.FinishedAt == 0 {
		return nil, nil
	}
	return &engine.Exit{Code: int(s.ExitCode), At: time.Unix(0, s.FinishedAt), OOM: s.Reason == "OOMKilled"}, nil
}
