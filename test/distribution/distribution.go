// Package distribution lays out Apache Kafka, Apache ZooKeeper and the Prometheus JMX exporter in directories as their
// projects' images have them: published jars, and scripts of our own with the interface of the upstream ones. What was
// laid out once is kept in the user's cache.
package distribution

import (
	"archive/zip"
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"text/template"
	"time"

	"github.com/metamorph-k8s/metamorph/test/filelock"
	"github.com/metamorph-k8s/metamorph/test/packages"
)

//go:embed files
var files embed.FS

// tools are Kafka's scripts, each with the class that it starts and the arguments that come before the caller's. Classes
// have moved between versions: the first that is in the jars is taken, and a script with none of them is left out.
var tools = map[string][]string{
	"kafka-acls.sh":                   {"org.apache.kafka.tools.AclCommand", "kafka.admin.AclCommand"},
	"kafka-broker-api-versions.sh":    {"org.apache.kafka.tools.BrokerApiVersionsCommand", "kafka.admin.BrokerApiVersionsCommand"},
	"kafka-cluster.sh":                {"org.apache.kafka.tools.ClusterTool"},
	"kafka-configs.sh":                {"org.apache.kafka.tools.ConfigCommand", "kafka.admin.ConfigCommand"},
	"kafka-console-consumer.sh":       {"org.apache.kafka.tools.consumer.ConsoleConsumer"},
	"kafka-console-producer.sh":       {"org.apache.kafka.tools.ConsoleProducer", "kafka.tools.ConsoleProducer"},
	"kafka-consumer-groups.sh":        {"org.apache.kafka.tools.consumer.group.ConsumerGroupCommand"},
	"kafka-consumer-perf-test.sh":     {"org.apache.kafka.tools.ConsumerPerformance"},
	"kafka-delete-records.sh":         {"org.apache.kafka.tools.DeleteRecordsCommand"},
	"kafka-dump-log.sh":               {"org.apache.kafka.tools.DumpLogSegments", "kafka.tools.DumpLogSegments"},
	"kafka-features.sh":               {"org.apache.kafka.tools.FeatureCommand"},
	"kafka-get-offsets.sh":            {"org.apache.kafka.tools.GetOffsetShell"},
	"kafka-jmx.sh":                    {"org.apache.kafka.tools.JmxTool"},
	"kafka-leader-election.sh":        {"org.apache.kafka.tools.LeaderElectionCommand"},
	"kafka-log-dirs.sh":               {"org.apache.kafka.tools.LogDirsCommand"},
	"kafka-metadata-quorum.sh":        {"org.apache.kafka.tools.MetadataQuorumCommand"},
	"kafka-metadata-shell.sh":         {"org.apache.kafka.shell.MetadataShell"},
	"kafka-producer-perf-test.sh":     {"org.apache.kafka.tools.ProducerPerformance"},
	"kafka-reassign-partitions.sh":    {"org.apache.kafka.tools.reassign.ReassignPartitionsCommand"},
	"kafka-storage.sh":                {"kafka.tools.StorageTool"},
	"kafka-topics.sh":                 {"org.apache.kafka.tools.TopicCommand"},
	"kafka-transactions.sh":           {"org.apache.kafka.tools.TransactionsCommand"},
	"zookeeper-security-migration.sh": {"kafka.admin.ZkSecurityMigrator"},
	"zookeeper-shell.sh":              {"org.apache.zookeeper.ZooKeeperMainWithTlsSupportForKafka -server"},
}

// log4jVersion is the line of Log4j that Kafka 4 logs with.
const log4jVersion = "2.25.4"

// zooKeeperMetrics says where the metrics module of a version has a version of its own: it is the one artifact that
// repositories which copy a part of the published ones tend to lack, and any of the line fits.
var zooKeeperMetrics = map[string]string{"3.9.5": "3.9.4"}

// JMXExporterVersion is the one that tests use. Newer ones are not in every repository; what is read of the configuration
// is the same.
const JMXExporterVersion = "1.0.1"

// Kafka returns a directory with bin, config and libs of that version, as an image has it in /opt/kafka.
func Kafka(ctx context.Context, version string, progress io.Writer) (string, error) {
	if err := check(version); err != nil {
		return "", err
	}
	p := pom{Dependencies: []artifact{
		{Group: "org.apache.kafka", ID: "kafka_2.13", Version: version},
		{Group: "org.apache.kafka", ID: "kafka-tools", Version: version},
		{Group: "org.apache.kafka", ID: "kafka-shell", Version: version},
	}}
	if !strings.HasPrefix(version, "3.") {
		p.Managed = []artifact{{Group: "org.apache.logging.log4j", ID: "log4j-bom", Version: log4jVersion}}
		p.Dependencies = append(p.Dependencies,
			artifact{Group: "org.apache.logging.log4j", ID: "log4j-slf4j-impl"},
			artifact{Group: "org.apache.logging.log4j", ID: "log4j-1.2-api"},
			artifact{Group: "org.apache.logging.log4j", ID: "log4j-core"})
	}
	return lay(ctx, "Kafka", "kafka", version, p, "libs", progress)
}

// ZooKeeper returns a directory with bin, conf and lib of that version, as an image has it in /apache-zookeeper-VERSION-bin.
func ZooKeeper(ctx context.Context, version string, progress io.Writer) (string, error) {
	if err := check(version); err != nil {
		return "", err
	}
	metrics := version
	if v, ok := zooKeeperMetrics[version]; ok {
		metrics = v
	}
	return lay(ctx, "ZooKeeper", "zookeeper", version, pom{
		Managed: []artifact{{Group: "org.apache.zookeeper", ID: "parent", Version: version}},
		Dependencies: []artifact{
			{Group: "org.apache.zookeeper", ID: "zookeeper", Version: version},
			{Group: "org.apache.zookeeper", ID: "zookeeper-prometheus-metrics", Version: metrics},
			// What its assembly has, and its own pom takes for granted.
			{Group: "ch.qos.logback", ID: "logback-classic"},
			{Group: "com.fasterxml.jackson.core", ID: "jackson-databind"},
			{Group: "commons-cli", ID: "commons-cli"},
			{Group: "io.dropwizard.metrics", ID: "metrics-core"},
			{Group: "org.eclipse.jetty", ID: "jetty-server"},
			{Group: "org.eclipse.jetty", ID: "jetty-servlet"},
			{Group: "org.jline", ID: "jline"},
			{Group: "org.xerial.snappy", ID: "snappy-java"},
		},
	}, "lib", progress)
}

// JMXExporter returns a directory with jmx_prometheus_javaagent-VERSION.jar.
func JMXExporter(ctx context.Context, version string, progress io.Writer) (string, error) {
	if err := check(version); err != nil {
		return "", err
	}
	return lay(ctx, "JMX exporter", "jmx-exporter", version, pom{
		Dependencies: []artifact{{Group: "io.prometheus.jmx", ID: "jmx_prometheus_javaagent", Version: version}},
	}, ".", progress)
}

// versions are MAJOR.MINOR.PATCH and nothing else: they become a part of a path and of a pom.
var versions = regexp.MustCompile(`^[0-9]+\.[0-9]+\.[0-9]+$`)

func check(version string) error {
	if !versions.MatchString(version) {
		return fmt.Errorf("%q is no version such as 4.3.1", version)
	}
	return nil
}

type artifact struct{ Group, ID, Version string }

// pom is what Maven is asked for.
type pom struct {
	// Managed are poms that say the versions of dependencies which name none.
	Managed, Dependencies []artifact
}

var pomTemplate = template.Must(template.New("pom").Parse(`<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>dev.metamorph</groupId>
  <artifactId>distribution</artifactId>
  <version>1</version>
  <dependencyManagement>
    <dependencies>
{{- range .Managed}}
      <dependency><groupId>{{.Group}}</groupId><artifactId>{{.ID}}</artifactId><version>{{.Version}}</version><type>pom</type><scope>import</scope></dependency>
{{- end}}
    </dependencies>
  </dependencyManagement>
  <dependencies>
{{- range .Dependencies}}
    <dependency><groupId>{{.Group}}</groupId><artifactId>{{.ID}}</artifactId>{{with .Version}}<version>{{.}}</version>{{end}}<scope>runtime</scope></dependency>
{{- end}}
  </dependencies>
  <build>
    <plugins>
      <plugin><artifactId>maven-dependency-plugin</artifactId><version>3.8.1</version></plugin>
    </plugins>
  </build>
</project>
`))

func (p pom) bytes() ([]byte, error) {
	var out bytes.Buffer
	err := pomTemplate.Execute(&out, p)
	return out.Bytes(), err
}

// lay makes the directory of one product, unless it is in the cache.
func lay(ctx context.Context, title, product, version string, p pom, jars string, progress io.Writer) (string, error) {
	if progress == nil {
		progress = io.Discard
	}
	text, err := p.bytes()
	if err != nil {
		return "", err
	}
	key, err := fingerprint(product, text)
	if err != nil {
		return "", err
	}
	caches, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	cache := filepath.Join(caches, "metamorph", "distribution")
	dir := filepath.Join(cache, product+"-"+version+"-"+key)
	if complete(dir) {
		return dir, nil
	}
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return "", err
	}
	// Maven's own cache does not expect two to fill it, so all products share a lock.
	unlock, err := filelock.Lock(ctx, filepath.Join(cache, ".lock"), func() {
		fmt.Fprintf(progress, "%s %s: another process is fetching jars, waiting\n", title, version)
	})
	if err != nil {
		return "", fmt.Errorf("waiting for another process to lay out %s: %w", title, err)
	}
	defer unlock()
	if complete(dir) {
		return dir, nil
	}
	l := layout{title: title + " " + version, product: product, jars: jars, progress: progress}
	return dir, l.make(ctx, cache, dir, text)
}

func complete(dir string) bool {
	_, err := os.Stat(dir)
	return err == nil
}

// fingerprint covers all that a directory is made from, so that one in the cache is never out of date.
func fingerprint(product string, pom []byte) (string, error) {
	hash := sha256.New()
	hash.Write(pom)
	fmt.Fprint(hash, tools)
	err := fs.WalkDir(files, "files", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || !strings.HasPrefix(name, "files/"+product+"/") {
			return err
		}
		text, err := files.ReadFile(name)
		fmt.Fprintf(hash, "%s %d\n%s", name, len(text), text)
		return err
	})
	return hex.EncodeToString(hash.Sum(nil)[:5]), err
}

type layout struct {
	title, product, jars string
	progress             io.Writer
}

// make works in a directory of its own and moves what is complete to its place.
func (l layout) make(ctx context.Context, cache, dir string, pom []byte) error {
	temp, err := os.MkdirTemp(cache, ".make-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(temp)
	root := filepath.Join(temp, "root")
	if err := os.Mkdir(root, 0o755); err != nil {
		return err
	}
	if err := l.fetch(ctx, temp, filepath.Join(root, l.jars), pom); err != nil {
		return err
	}
	if err := l.copyFiles(root); err != nil {
		return err
	}
	if l.product == "kafka" {
		if err := writeTools(root); err != nil {
			return err
		}
	}
	return os.Rename(root, dir)
}

// fetch has Maven resolve the jars and copy them into a directory.
func (l layout) fetch(ctx context.Context, temp, into string, pom []byte) error {
	if err := Tools(ctx, l.progress); err != nil {
		return err
	}
	file := filepath.Join(temp, "pom.xml")
	if err := os.WriteFile(file, pom, 0o644); err != nil {
		return err
	}
	began := time.Now()
	fmt.Fprintf(l.progress, "%s: fetching the jars with Maven, once\n", l.title)
	cmd := exec.CommandContext(ctx, "mvn", "--batch-mode", "-Dstyle.color=never", "--file", file, "dependency:copy-dependencies",
		"-DincludeScope=runtime", "-DoutputDirectory="+into)
	cmd.Dir = temp
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	cmd.Stderr = cmd.Stdout
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("%s: %w", l.title, err)
	}
	var complaints strings.Builder
	downloaded, told := 0, time.Now()
	for lines := bufio.NewScanner(out); lines.Scan(); {
		line := lines.Text()
		if strings.Contains(line, "Downloaded from") {
			downloaded++
			if time.Since(told) > 5*time.Second {
				told = time.Now()
				fmt.Fprintf(l.progress, "%s: %d files downloaded\n", l.title, downloaded)
			}
		}
		if strings.HasPrefix(line, "[ERROR]") {
			fmt.Fprintln(&complaints, line)
		}
	}
	if err := cmd.Wait(); err != nil {
		if ctx.Err() != nil {
			return fmt.Errorf("%s: %w", l.title, context.Cause(ctx))
		}
		return fmt.Errorf("%s: mvn dependency:copy-dependencies: %w\n%s", l.title, err, complaints.String())
	}
	fmt.Fprintf(l.progress, "%s: fetched in %s\n", l.title, time.Since(began).Round(time.Second))
	return nil
}

// Tools makes sure that Java and Maven are there.
func Tools(ctx context.Context, progress io.Writer) error {
	return packages.Ensure(ctx, progress, map[string]string{"java": "openjdk-17-jre-headless", "mvn": "maven"})
}

func (l layout) copyFiles(root string) error {
	from := path.Join("files", l.product)
	if _, err := fs.Stat(files, from); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return fs.WalkDir(files, from, func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		to := filepath.Join(root, filepath.FromSlash(strings.TrimPrefix(name, from)))
		if entry.IsDir() {
			return os.MkdirAll(to, 0o755)
		}
		text, err := files.ReadFile(name)
		if err != nil {
			return err
		}
		mode := fs.FileMode(0o644)
		if strings.HasSuffix(name, ".sh") {
			mode = 0o755
		}
		return os.WriteFile(to, text, mode)
	})
}

// writeTools writes the scripts whose classes are in Kafka's jars.
func writeTools(root string) error {
	classes, err := classesOf(filepath.Join(root, "libs"))
	if err != nil {
		return err
	}
	for script, candidates := range tools {
		for _, command := range candidates {
			if class, _, _ := strings.Cut(command, " "); !classes[class] {
				continue
			}
			text := "#!/usr/bin/env bash\nexec \"$(dirname \"${BASH_SOURCE[0]}\")/kafka-run-class.sh\" " + command + " \"$@\"\n"
			if err := os.WriteFile(filepath.Join(root, "bin", script), []byte(text), 0o755); err != nil {
				return err
			}
			break
		}
	}
	return nil
}

// classesOf lists the classes in Kafka's own jars.
func classesOf(libs string) (map[string]bool, error) {
	jars, err := filepath.Glob(filepath.Join(libs, "kafka*.jar"))
	if err != nil {
		return nil, err
	}
	classes := map[string]bool{}
	for _, jar := range jars {
		r, err := zip.OpenReader(jar)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", jar, err)
		}
		for _, f := range r.File {
			if name, ok := strings.CutSuffix(f.Name, ".class"); ok {
				classes[strings.ReplaceAll(name, "/", ".")] = true
			}
		}
		if err := r.Close(); err != nil {
			return nil, err
		}
	}
	return classes, nil
}
