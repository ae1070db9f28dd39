package main

import (
	"fmt"
	"runtime"
	"runtime/debug"
	"strings"

	"github.com/spf13/cobra"

	"github.com/metamorph-k8s/metamorph/pkg/mutate/catalogue"
)

// version is set for a release, with -ldflags "-X main.version=v1.2.3".
var version string

// development is the version of a build that nobody gave one.
const development = "v0.0.0-development"

func currentVersion() string {
	if version != "" {
		return version
	}
	if info, ok := debug.ReadBuildInfo(); ok && strings.HasPrefix(info.Main.Version, "v") {
		return info.Main.Version
	}
	return development
}

// versions is what the command prints.
type versions struct {
	Version   string   `json:"version"`
	Go        string   `json:"go"`
	Kafka     []string `json:"kafka"`
	ZooKeeper []string `json:"zookeeper"`
}

func newVersion() *cobra.Command {
	output := oneOf("text", "json")
	cmd := &cobra.Command{
		Use:   "version",
		Short: "Print the version, and the lines of Kafka and ZooKeeper that can be rendered",
		Example: `  metamorph version
  metamorph version -o json`,
		Args: cobra.NoArgs,
		RunE: runs(func(cmd *cobra.Command, _ []string) error {
			v := versions{Version: currentVersion(), Go: runtime.Version(), Kafka: catalogue.KafkaMinors(), ZooKeeper: catalogue.ZooKeeperMinors()}
			if output.value == "json" {
				return printJSON(cmd.OutOrStdout(), v)
			}
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "metamorph %s (%s)\nKafka      %s\nZooKeeper  %s\n",
				v.Version, v.Go, strings.Join(v.Kafka, ", "), strings.Join(v.ZooKeeper, ", "))
			return err
		}),
	}
	cmd.Flags().VarP(output, "output", "o", "text or json")
	return cmd
}
