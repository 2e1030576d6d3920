// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"time"

	runtime "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// labels are those by which the kubelet finds its own again.
func labels(names ...string) map[string]string {
	all := map[string]string{}
	for i, name := range names {
		all[[]string{"io.kubernetes.pod.namespace", "io.kubernetes.pod.name", "io.kubernetes.container.name"}[i]] = name
	}
	return all
}

// profile is the seccomp profile of a container.
func (c *client) profile() *runtime.SecurityProfile {
	if c.seccomp != "" {
		return &runtime.SecurityProfile{ProfileType: runtime.SecurityProfile_Localhost, LocalhostRef: c.seccomp}
	}
	return &runtime.SecurityProfile{ProfileType: runtime.SecurityProfile_RuntimeDefault}
}

// namespaces: the network is the node's, as no plugin makes another.
var namespaces = &runtime.NamespaceOption{
	Network: runtime.NamespaceMode_NODE, Pid: runtime.NamespaceMode_CONTAINER, Ipc: runtime.NamespaceMode_POD,
}

// sandboxConfig is what a pod is to be.
func sandboxConfig(namespace, pod string) *runtime.PodSandboxConfig {
	return &runtime.PodSandboxConfig{
		Metadata: &runtime.PodSandboxMetadata{Namespace: namespace, Name: pod, Uid: namespace + "-" + pod},
		Labels:   labels(namespace, pod), LogDirectory: "/var/log/pods/" + namespace + "_" + pod,
		Linux: &runtime.LinuxPodSandboxConfig{SecurityContext: &runtime.LinuxSandboxSecurityContext{NamespaceOptions: namespaces}},
	}
}

// sandbox returns the pod that is ready, "" if there is none.
func (c *client) sandbox(ctx context.Context, namespace, pod string) (id string, err error) {
	r, err := c.ListPodSandbox(ctx, &runtime.ListPodSandboxRequest{Filter: &runtime.PodSandboxFilter{
		LabelSelector: labels(namespace, pod), State: &runtime.PodSandboxStateValue{State: runtime.PodSandboxState_SANDBOX_READY},
	}})
	if err != nil || len(r.Items) == 0 {
		return "", err
	}
	return r.Items[0].Id, nil
}

// containers returns those that have a name, newest first; of a pod, if there is no
// name of a container.
func (c *client) containers(ctx context.Context, names ...string) ([]*runtime.Container, error) {
	r, err := c.ListContainers(ctx, &runtime.ListContainersRequest{Filter: &runtime.ContainerFilter{LabelSelector: labels(names...)}})
	if err != nil {
		return nil, err
	}
	slices.SortFunc(r.Containers, func(a, b *runtime.Container) int { return cmp.Compare(b.CreatedAt, a.CreatedAt) })
	return r.Containers, nil
}

// newest returns the newest container that has a name.
func (c *client) newest(ctx context.Context, names []string) (string, error) {
	all, err := c.containers(ctx, names[:3]...)
	if err == nil && len(all) == 0 {
		err = fmt.Errorf("%q: no such container", names[:3])
	}
	if err != nil {
		return "", err
	}
	return all[0].Id, nil
}

func start(ctx context.Context, c *client, args []string) (int, error) {
	config := sandboxConfig(args[0], args[1])
	pod, err := c.sandbox(ctx, args[0], args[1])
	if err == nil && pod == "" {
		r, rerr := c.RunPodSandbox(ctx, &runtime.RunPodSandboxRequest{Config: config})
		pod, err = r.GetPodSandboxId(), rerr
	}
	if err != nil {
		return 0, err
	}
	before, err := c.containers(ctx, args[:3]...)
	if err != nil {
		return 0, err
	}
	if err := c.imported(ctx, args[3]); err != nil {
		return 0, err
	}
	made, err := c.CreateContainer(ctx, &runtime.CreateContainerRequest{PodSandboxId: pod, SandboxConfig: config, Config: &runtime.ContainerConfig{
		Metadata: &runtime.ContainerMetadata{Name: args[2], Attempt: uint32(len(before))},
		Image:    &runtime.ImageSpec{Image: args[3]}, Args: args[4:], Labels: labels(args[:3]...), LogPath: args[2] + ".log",
		Linux: &runtime.LinuxContainerConfig{SecurityContext: &runtime.LinuxContainerSecurityContext{
			NamespaceOptions: namespaces, Seccomp: c.profile(),
		}},
	}})
	if err != nil {
		return 0, err
	}
	if _, err := c.StartContainer(ctx, &runtime.StartContainerRequest{ContainerId: made.ContainerId}); err != nil {
		return 0, err
	}
	return pid(ctx, c, args)
}

// imported waits until the interface knows of an image that ctr has imported.
func (c *client) imported(ctx context.Context, image string) error {
	for {
		r, err := c.images.ImageStatus(ctx, &runtime.ImageStatusRequest{Image: &runtime.ImageSpec{Image: image}})
		if err != nil || r.Image != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s: no such image: %w", image, ctx.Err())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// pid prints what the engine has for the container's first process.
func pid(ctx context.Context, c *client, args []string) (int, error) {
	id, err := c.newest(ctx, args)
	if err != nil {
		return 0, err
	}
	r, err := c.ContainerStatus(ctx, &runtime.ContainerStatusRequest{ContainerId: id, Verbose: true})
	if err != nil {
		return 0, err
	}
	var info struct{ Pid int }
	if err := json.Unmarshal([]byte(r.Info["info"]), &info); err != nil {
		return 0, err
	}
	fmt.Println(info.Pid)
	return 0, nil
}

func stop(ctx context.Context, c *client, args []string) (int, error) {
	id, err := c.newest(ctx, args)
	if err == nil {
		_, err = c.StopContainer(ctx, &runtime.StopContainerRequest{ContainerId: id})
	}
	return 0, err
}

func remove(ctx context.Context, c *client, args []string) (int, error) {
	all, err := c.containers(ctx, args[:3]...)
	if err != nil {
		return 0, err
	}
	for _, one := range all { // one that runs is killed
		if _, err := c.RemoveContainer(ctx, &runtime.RemoveContainerRequest{ContainerId: one.Id}); err != nil {
			return 0, err
		}
	}
	rest, err := c.containers(ctx, args[:2]...)
	if err != nil || len(rest) > 0 {
		return 0, err
	}
	pod, err := c.sandbox(ctx, args[0], args[1])
	if err == nil && pod != "" {
		if _, err = c.StopPodSandbox(ctx, &runtime.StopPodSandboxRequest{PodSandboxId: pod}); err == nil {
			_, err = c.RemovePodSandbox(ctx, &runtime.RemovePodSandboxRequest{PodSandboxId: pod})
		}
	}
	return 0, err
}

func execute(ctx context.Context, c *client, args []string) (int, error) {
	id, err := c.newest(ctx, args)
	if err != nil {
		return 0, err
	}
	r, err := c.ExecSync(ctx, &runtime.ExecSyncRequest{ContainerId: id, Cmd: args[3:], Timeout: int64(deadline / time.Second)})
	if err != nil {
		return 0, err
	}
	_, _ = os.Stdout.Write(r.Stdout)
	_, _ = os.Stderr.Write(r.Stderr)
	return int(r.ExitCode), nil
}
