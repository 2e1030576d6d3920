// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// release is the version of this tree; the revision comes from the build.
const release = "0.1.0-dev"

func (p *program) versionCommand() *cobra.Command {
	var output string
	c := &cobra.Command{
		Use:     "version",
		Short:   "Print the version",
		Example: "  outband version -o json",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			v := map[string]string{"version": release, "revision": revision(), "go": runtime.Version(), "platform": runtime.GOOS + "/" + runtime.GOARCH}
			switch output {
			case "json":
				return json.NewEncoder(c.OutOrStdout()).Encode(v)
			case "":
				_, err := fmt.Fprintf(c.OutOrStdout(), "outband %s (%s, %s, %s)\n", v["version"], v["revision"], v["go"], v["platform"])
				return err
			}
			return fmt.Errorf("%q is no output format (json)", output)
		},
	}
	c.Flags().StringVarP(&output, "output", "o", "", "json")
	return c
}

// revision is the commit that was built, where the build knows it.
func revision() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" && len(s.Value) >= 12 {
			return s.Value[:12]
		}
	}
	return "unknown"
}
