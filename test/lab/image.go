// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
)

// Image is a root file system and what runs in it. It needs no registry.
type Image struct {
	Name  string
	Args  []string
	Files []File
}

// File is a directory, if its Mode has os.ModeDir, a link, if Link is set, or a
// file.
type File struct {
	Path string // without a leading slash
	Mode os.FileMode
	Data []byte
	Link string
}

// BusyboxImage is a system with a shell.
func BusyboxImage() (*Image, error) {
	data, err := staticBusybox()
	if err != nil {
		return nil, err
	}
	names, err := exec.Command("busybox", "--list").Output()
	if err != nil {
		return nil, fmt.Errorf("busybox --list: %w", err)
	}
	image := &Image{Name: "busybox", Args: []string{"sleep", "1000000"}}
	for _, dir := range []string{"bin", "dev", "etc", "home", "mnt", "proc", "root", "run", "sbin", "sys", "tmp", "usr", "var"} {
		image.Files = append(image.Files, File{Path: dir, Mode: os.ModeDir | 0o755})
	}
	image.Files = append(image.Files,
		File{Path: "bin/busybox", Mode: 0o755, Data: data},
		File{Path: "etc/passwd", Mode: 0o644, Data: []byte("root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n")},
		File{Path: "etc/group", Mode: 0o644, Data: []byte("root:x:0:\ntty:x:5:\nnogroup:x:65534:\n")})
	for _, name := range strings.Fields(string(names)) {
		if name != "busybox" {
			image.Files = append(image.Files, File{Path: "bin/" + name, Link: "busybox"})
		}
	}
	return image, nil
}

// ScratchImage is one static program and nothing else, as distroless images are.
func ScratchImage() (*Image, error) {
	data, err := staticBusybox()
	if err != nil {
		return nil, err
	}
	return &Image{Name: "scratch", Args: []string{"/sleep", "1000000"}, Files: []File{
		{Path: "sleep", Mode: 0o755, Data: data}, // busybox, which goes by the name it is called by
		{Path: "dev", Mode: os.ModeDir | 0o755},
		{Path: "proc", Mode: os.ModeDir | 0o755},
		{Path: "sys", Mode: os.ModeDir | 0o755},
		{Path: "usr", Mode: os.ModeDir | 0o755}, // without it nspawn sees no system
	}}, nil
}

// staticBusybox reads the machine's.
func staticBusybox() ([]byte, error) {
	path, err := exec.LookPath("busybox")
	if err != nil {
		return nil, fmt.Errorf("%w (package busybox-static)", err)
	}
	data, err := os.ReadFile(path)
	if err == nil && bytes.Contains(data, []byte("/ld-linux")) {
		err = errors.New("this busybox is not static (package busybox-static)")
	}
	return data, err
}

// unpack writes the image's files below dir. What is there already is of a
// container of the same name that has ended, and goes.
func (i *Image) unpack(dir string) error {
	if err := errors.Join(os.RemoveAll(dir), os.MkdirAll(dir, 0o755)); err != nil {
		return err
	}
	return i.fill(dir)
}

// fill writes the image's files below an empty directory.
func (i *Image) fill(dir string) error {
	for _, f := range i.Files {
		path := filepath.Join(dir, f.Path)
		var err error
		switch {
		case f.Mode.IsDir():
			err = os.Mkdir(path, f.Mode.Perm())
		case f.Link != "":
			err = os.Symlink(f.Link, path)
		default:
			err = os.WriteFile(path, f.Data, f.Mode.Perm())
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// archive is the image's files as a tar.
func (i *Image) archive() ([]byte, error) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, f := range i.Files {
		header := &tar.Header{Name: f.Path, Mode: int64(f.Mode.Perm()), Typeflag: tar.TypeReg, Size: int64(len(f.Data))}
		switch {
		case f.Mode.IsDir():
			header.Typeflag, header.Name = tar.TypeDir, f.Path+"/"
		case f.Link != "":
			header.Typeflag, header.Linkname, header.Mode = tar.TypeSymlink, f.Link, 0o777
		}
		if err := w.WriteHeader(header); err != nil {
			return nil, err
		}
		if _, err := w.Write(f.Data); err != nil {
			return nil, err
		}
	}
	return b.Bytes(), w.Close()
}

// dockerArchive is the image as `docker save` writes it.
func (i *Image) dockerArchive(reference string) ([]byte, error) {
	layer, err := i.archive()
	if err != nil {
		return nil, err
	}
	type object = map[string]any
	config, err := json.Marshal(object{
		"architecture": runtime.GOARCH, "os": "linux", "config": object{"Cmd": i.Args, "Env": []string{"PATH=/bin:/sbin"}},
		"rootfs": object{"type": "layers", "diff_ids": []string{fmt.Sprintf("sha256:%x", sha256.Sum256(layer))}},
	})
	if err != nil {
		return nil, err
	}
	manifest, err := json.Marshal([]object{{"Config": "config.json", "RepoTags": []string{reference}, "Layers": []string{"layer.tar"}}})
	if err != nil {
		return nil, err
	}
	return (&Image{Files: []File{
		{Path: "layer.tar", Mode: 0o644, Data: layer},
		{Path: "config.json", Mode: 0o644, Data: config},
		{Path: "manifest.json", Mode: 0o644, Data: manifest},
	}}).archive()
}

// reference is what the engines with a store call the image.
func (i *Image) reference() string { return "docker.io/lab/" + i.Name + ":latest" }

// load hands a docker archive to a command of the engine's, which takes its path
// as its last argument. It does so once for each image of a host.
func (h *Host) load(image *Image, command ...string) (*Command, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	key := h.Engine.Name + " " + image.Name
	if h.loaded[key] {
		return nil, nil
	}
	data, err := image.dockerArchive(image.reference())
	if err != nil {
		return nil, err
	}
	path := "/lab/" + image.Name + ".tar"
	if err := os.WriteFile(h.Path(path), data, 0o644); err != nil {
		return nil, err
	}
	h.loaded[key] = true
	return h.As(append(command, path)...), nil
}
