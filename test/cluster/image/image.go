// Package image makes container images without Docker: Metamorph's own, and stand-ins for those of Kafka and ZooKeeper, for
// clusters that cannot pull the upstream ones.
//
// A stand-in has what its upstream image has as far as a rendered StatefulSet can tell: the folders, the user, the scripts,
// and the kind of tools, which in Kafka's case are BusyBox's. They are put together from the published jars and from
// programs of this machine.
package image

import (
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"github.com/metamorph-k8s/metamorph/test/distribution"
	"github.com/metamorph-k8s/metamorph/test/filelock"
)

// Maker makes images.
type Maker struct {
	// Root is the root of Metamorph's source.
	Root string
	// Cache is a directory for what takes long and for the images.
	Cache    string
	Progress io.Writer
}

// nonRoot is the user of images that have none by name.
const nonRoot = 65532

// Metamorph builds Metamorph into an image: the program, the certificates that this machine trusts, and nothing else.
func (m *Maker) Metamorph(ctx context.Context, ref, version string) (path string, err error) {
	program, err := m.compile(ctx, m.Root, "./cmd/webhook", "-X main.version="+version)
	if err != nil {
		return "", err
	}
	t := tree{}
	if err := t.file("metamorph", program); err != nil {
		return "", err
	}
	const certificates = "/etc/ssl/certs/ca-certificates.crt"
	if _, err := os.Stat(certificates); err == nil {
		if err := t.file(certificates, certificates); err != nil {
			return "", err
		}
	}
	return m.write(ref, v1.Config{Entrypoint: []string{"/metamorph"}, User: fmt.Sprint(nonRoot, ":", nonRoot)}, t)
}

// Pause builds the image of the process that holds a pod's namespaces.
func (m *Maker) Pause(ctx context.Context, ref string) (path string, err error) {
	program, err := m.compile(ctx, filepath.Join(m.Root, "test", "cluster"), "./pause", "")
	if err != nil {
		return "", err
	}
	t := tree{}
	if err := t.file("pause", program); err != nil {
		return "", err
	}
	return m.write(ref, v1.Config{Entrypoint: []string{"/pause"}, User: fmt.Sprint(nonRoot, ":", nonRoot)}, t)
}

// Kafka makes a stand-in for apache/kafka.
func (m *Maker) Kafka(ctx context.Context, ref, version string) (path string, err error) {
	dir, err := distribution.Kafka(ctx, version, m.Progress)
	if err != nil {
		return "", err
	}
	base, err := m.base(ctx, "appuser", busybox)
	if err != nil {
		return "", err
	}
	const home = "/opt/kafka"
	t := tree{}
	if err := t.folder(home, dir); err != nil {
		return "", err
	}
	for _, dir := range []string{home + "/logs", "/var/lib/kafka/data", "/mnt/shared/config", "/etc/kafka/docker", "/etc/kafka/secrets"} {
		t.dir(dir, 0o775, appUser)
	}
	return m.write(ref, v1.Config{User: "appuser", WorkingDir: "/", Env: env(), Cmd: []string{"bash"}}, base, t)
}

// ZooKeeper makes a stand-in for the official image zookeeper.
func (m *Maker) ZooKeeper(ctx context.Context, ref, version string) (path string, err error) {
	dir, err := distribution.ZooKeeper(ctx, version, m.Progress)
	if err != nil {
		return "", err
	}
	base, err := m.base(ctx, "zookeeper", coreutils)
	if err != nil {
		return "", err
	}
	home := "/apache-zookeeper-" + version + "-bin"
	t := tree{}
	if err := t.folder(home, dir); err != nil {
		return "", err
	}
	for _, dir := range []string{"/conf", "/data", "/datalog", "/logs"} {
		t.dir(dir, 0o755, appUser)
	}
	return m.write(ref, v1.Config{
		WorkingDir: home, Env: env(home+"/bin", "ZOO_CONF_DIR=/conf", "ZOO_DATA_DIR=/data", "ZOO_DATA_LOG_DIR=/datalog", "ZOO_LOG_DIR=/logs", "ZOOCFGDIR=/conf"),
		Cmd: []string{"zkServer.sh", "start-foreground"},
	}, base, t)
}

// env is the environment of an image with Java; what stands before the first assignment is added to the path.
func env(more ...string) []string {
	path := "PATH=" + javaHome + "/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
	var all []string
	for _, s := range more {
		if strings.Contains(s, "=") {
			all = append(all, s)
		} else {
			path += ":" + s
		}
	}
	return append([]string{path, "JAVA_HOME=" + javaHome, "LANG=C.UTF-8"}, all...)
}

// compile builds a program that needs nothing of the system that it runs on.
func (m *Maker) compile(ctx context.Context, dir, pkg, flags string) (string, error) {
	out := filepath.Join(m.Cache, "programs", filepath.Base(pkg))
	m.tell("compiling %s", pkg)
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w "+flags, "-o", out, pkg)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOWORK=off", "GOFLAGS=")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("compiling %s: %w\n%s", pkg, err, out)
	}
	return out, nil
}

func (m *Maker) tell(format string, args ...any) {
	if m.Progress != nil {
		fmt.Fprintf(m.Progress, "images: "+format+"\n", args...)
	}
}

// write writes an image of these layers, unless there is one of just these. The file is as docker save writes it.
func (m *Maker) write(ref string, config v1.Config, layers ...tree) (string, error) {
	tag, err := name.NewTag(ref)
	if err != nil {
		return "", err
	}
	file := strings.NewReplacer("/", "_", ":", "_").Replace(ref)
	keys := []string{file}
	for _, t := range layers {
		key, err := t.key()
		if err != nil {
			return "", err
		}
		keys = append(keys, key)
	}
	path := filepath.Join(m.Cache, strings.Join(keys, "-")+".tar")
	return path, m.once(path, func(temp string) error {
		m.tell("writing %s", ref)
		old, err := filepath.Glob(filepath.Join(m.Cache, file+"-*.tar"))
		if err != nil {
			return err
		}
		for _, path := range old {
			if err := os.Remove(path); err != nil {
				return err
			}
		}
		image := empty.Image
		about, err := image.ConfigFile()
		if err != nil {
			return err
		}
		about = about.DeepCopy()
		about.OS, about.Architecture, about.Config = "linux", runtime.GOARCH, config
		if image, err = mutate.ConfigFile(image, about); err != nil {
			return err
		}
		scratch, err := os.MkdirTemp(m.Cache, ".layers-")
		if err != nil {
			return err
		}
		defer os.RemoveAll(scratch)
		for i, t := range layers {
			layerFile := filepath.Join(scratch, strconv.Itoa(i))
			if err := writeFile(layerFile, t.write); err != nil {
				return err
			}
			// To compress what is unpacked on the same machine a moment later costs more than it saves.
			layer, err := tarball.LayerFromFile(layerFile, tarball.WithCompressionLevel(gzip.NoCompression))
			if err != nil {
				return err
			}
			if image, err = mutate.AppendLayers(image, layer); err != nil {
				return err
			}
		}
		return tarball.WriteToFile(temp, tag, image)
	})
}

// once makes a file, unless it is there: at a place of its own first, so that what is there is complete.
func (m *Maker) once(path string, build func(temp string) error) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	unlock, err := filelock.Lock(context.Background(), filepath.Join(m.Cache, ".lock"), func() { m.tell("another process is making them, waiting") })
	if err != nil {
		return err
	}
	defer unlock()
	if _, err := os.Stat(path); err == nil {
		return nil
	}
	temp := path + ".part"
	defer os.RemoveAll(temp)
	if err := build(temp); err != nil {
		return err
	}
	return os.Rename(temp, path)
}

func writeFile(path string, write func(io.Writer) error) (err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, fs.FileMode(0o644))
	if err != nil {
		return err
	}
	defer func() {
		if closed := f.Close(); err == nil {
			err = closed
		}
	}()
	return write(f)
}
