// SPDX-License-Identifier: Apache-2.0

package all_test

import (
	"context"
	"fmt"

	"github.com/outband/outband/engine"
	"github.com/outband/outband/engine/all"
)

// All containers of the machine, whatever made them.
func ExampleEngines() {
	containers, err := engine.List(context.Background(), all.Engines())
	for i := range containers {
		fmt.Println(containers[i].FullName(), containers[i].State, containers[i].Init.PIDs)
	}
	fmt.Println(err) // of engines that could not be asked; the others have answered
}
