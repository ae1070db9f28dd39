// Package broker_test runs real Kafka and ZooKeeper nodes from expanded StatefulSets, without Kubernetes. Nothing of what
// is rendered is changed: each node gets the files, variables, names and user that its pod would have.
package broker_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/metamorph-k8s/metamorph/test/broker/kubelet"
	"github.com/metamorph-k8s/metamorph/test/broker/sandbox"
	"github.com/metamorph-k8s/metamorph/test/distribution"
	"github.com/metamorph-k8s/metamorph/test/packages"
)

// The versions that are run.
const (
	kafka4    = "4.3.1"
	kafka3    = "3.9.2"
	zookeeper = "3.9.5"
)

var (
	full = flag.Bool("full", false, "run all combinations, not only those in which any two values meet (hours)")
	keep = flag.Bool("keep-logs", false, "print the nodes' whole logs when a test fails")
)

// scratch is a directory that is gone with the sandbox.
var scratch string

func TestMain(m *testing.M) {
	kubelet.Main()
	flag.Parse()
	code, err := run(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, "test/broker:", err)
		code = 1
	}
	os.Exit(code)
}

func run(m *testing.M) (int, error) {
	ctx := context.Background()
	if !sandbox.Inside() {
		// In the sandbox there is no network.
		err := packages.Ensure(ctx, os.Stderr, map[string]string{"bash": "bash", "getent": "libc-bin", "java": "openjdk-17-jre-headless", "nsenter": "util-linux"})
		if err != nil {
			return 0, err
		}
		if _, err := prepare(ctx); err != nil {
			return 0, err
		}
		return sandbox.Run()
	}
	dirs, err := prepare(ctx)
	if err != nil {
		return 0, err
	}
	needed := append(dirs.all(), dirs.java)
	self, err := os.Executable()
	if err != nil {
		return 0, err
	}
	if scratch, err = sandbox.Enter(append(needed, self)...); err != nil {
		return 0, err
	}
	products = dirs
	return m.Run(), nil
}

// installed are the directories of what is run.
type installed struct {
	kafka          map[string]string
	zookeeper, jmx string
	java           string
}

var products installed

func (d installed) all() []string {
	out := []string{d.zookeeper, d.jmx}
	for _, dir := range d.kafka {
		out = append(out, dir)
	}
	return out
}

func prepare(ctx context.Context) (installed, error) {
	d := installed{kafka: map[string]string{}}
	var err error
	for _, version := range []string{kafka4, kafka3} {
		if d.kafka[version], err = distribution.Kafka(ctx, version, os.Stderr); err != nil {
			return d, err
		}
	}
	if d.zookeeper, err = distribution.ZooKeeper(ctx, zookeeper, os.Stderr); err != nil {
		return d, err
	}
	if d.jmx, err = distribution.JMXExporter(ctx, distribution.JMXExporterVersion, os.Stderr); err != nil {
		return d, err
	}
	java, err := exec.LookPath("java")
	if err != nil {
		return d, err
	}
	if java, err = filepath.EvalSymlinks(java); err != nil {
		return d, err
	}
	d.java = filepath.Dir(filepath.Dir(java))
	return d, checkJava(ctx, java)
}

// checkJava says what Kafka 4 would only say as an UnsupportedClassVersionError.
func checkJava(ctx context.Context, java string) error {
	out, err := exec.CommandContext(ctx, java, "-XshowSettings:properties", "-version").CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s -version: %w\n%s", java, err, out)
	}
	m := regexp.MustCompile(`java\.specification\.version = ([0-9.]+)`).FindSubmatch(out)
	if m == nil {
		return fmt.Errorf("%s does not tell its version", java)
	}
	// 1.8 was the last to be written so.
	if version, err := strconv.Atoi(string(m[1])); err != nil || version < 17 {
		return fmt.Errorf("%s is Java %s, and Kafka needs 17 or newer (Debian: apt-get install openjdk-17-jre-headless)", java, m[1])
	}
	return nil
}

// javaHome is where Kafka's image has its Java.
const javaHome = "/opt/java/openjdk"

// image says what the images have that the rendered pods name.
func image(reference string) (kubelet.Image, error) {
	path := "PATH=" + javaHome + "/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
	name, tag, _ := strings.Cut(reference, ":")
	switch {
	case name == "apache/kafka" && products.kafka[tag] != "":
		return kubelet.Image{
			Mounts: map[string]string{javaHome: products.java, "/opt/kafka": products.kafka[tag]},
			Env:    []string{path, "JAVA_HOME=" + javaHome},
		}, nil
	case name == "zookeeper" && tag == zookeeper:
		home := "/apache-zookeeper-" + tag + "-bin"
		return kubelet.Image{
			Mounts:  map[string]string{javaHome: products.java, home: products.zookeeper},
			Env:     []string{path + ":" + home + "/bin", "JAVA_HOME=" + javaHome, "ZOOCFGDIR=/conf", "ZOO_LOG_DIR=/logs"},
			WorkDir: home,
		}, nil
	case strings.HasSuffix(name, "/strimzi/kafka"):
		return kubelet.Image{Mounts: map[string]string{"/opt/prometheus-jmx-exporter": products.jmx}}, nil
	}
	return kubelet.Image{}, errors.New("no image " + reference + " here")
}
