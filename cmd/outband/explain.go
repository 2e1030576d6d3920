// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"

	"github.com/outband/outband"
	"github.com/outband/outband/internal/safetext"
	"github.com/outband/outband/ns"
)

// explain prints a plan, for people or as JSON.
func explain(w io.Writer, plan *outband.Plan, format string) error {
	if format == "json" {
		b, err := safetext.Marshal(plan)
		if err != nil {
			return err
		}
		var out bytes.Buffer
		if err := json.Indent(&out, b, "", "  "); err != nil {
			return err
		}
		_, err = fmt.Fprintf(w, "%s\n", out.Bytes())
		return err
	}
	tw := newTable(w)
	row := func(what string, format string, args ...any) {
		fmt.Fprintf(tw, "%s\t%s\n", what, safetext.Escape(fmt.Sprintf(format, args...)))
	}
	row("target", "%s, whose first process is %s", plan.Target, arrows(plan.Init))
	row("join", "%s", kinds(plan.Join))
	row("already shared", "%s", kinds(plan.Shared))
	row("user", "%d, group %d, groups %v", plan.UID, plan.GID, plan.Groups)
	row("capabilities", "effective %s, permitted %s, bounding %s", plan.Capability.Effective, plan.Capability.Permitted, plan.Capability.Bounding)
	row("", "inheritable %s, ambient %s, noroot %v", plan.Capability.Inheritable, plan.Capability.Ambient, plan.Capability.NoRoot)
	row("no_new_privs", "%v", plan.NoNewPrivs)
	row("filters", "%d", plan.Filters)
	row("security label", "%s", orElse(plan.Label, "the caller's own"))
	s := plan.Scheduling
	row("scheduling", "%s, nice %d, priority %d, I/O priority %#x, CPUs %s", s.Policy, s.Nice, s.Priority, s.IOPriority, orElse(s.CPUs, "all"))
	row("cgroup", "%s", orElse(plan.Cgroup, "the caller's own"))
	row("umask", "%04o", plan.Umask)
	row("oom_score_adj", "%d", plan.OOMScoreAdj)
	for _, l := range plan.Limits {
		row("limit", "%s: %s, at most %s", strings.ToLower(l.Name), limit(l.Soft), limit(l.Hard))
	}
	row("streams", "%s", plan.Streams)
	row("directory", "%s", orElse(plan.Dir, "that of init"))
	row("execute", "%s", strings.Join(plan.Args, " "))
	row("looked up as", "%s", strings.Join(plan.Paths, " "))
	row("environment", "%s", strings.Join(plan.Env, " "))
	for _, note := range plan.Notes {
		row("note", "%s", note)
	}
	return tw.Flush()
}

func orElse(s, other string) string {
	if s == "" {
		return other
	}
	return s
}

// limit shows the value of a resource limit.
func limit(n uint64) string {
	if n == math.MaxUint64 {
		return "unlimited"
	}
	return strconv.FormatUint(n, 10)
}

func kinds(ks []ns.Kind) string {
	names := make([]string, len(ks))
	for i, k := range ks {
		names[i] = k.String()
	}
	return orElse(strings.Join(names, " "), "nothing")
}

// arrows shows the numbers of one process from the outermost level inwards.
func arrows(pids []int) string {
	return strings.ReplaceAll(strings.Trim(fmt.Sprint(pids), "[]"), " ", " → ")
}
