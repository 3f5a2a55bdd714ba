package main

import (
	"fmt"
	"net/url"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"go.etcd.io/etcd/server/v3/embed"
)

// newEtcdCommand runs one etcd member on the loopback address of its network namespace, over plain HTTP:
// nothing outside that namespace can reach it. It does not sync to disk, since the cluster is thrown away after tests.
func newEtcdCommand() *cobra.Command {
	var dir string
	command := &cobra.Command{
		Use:          "etcd",
		SilenceUsage: true,
		RunE: func(*cobra.Command, []string) error {
			config := embed.NewConfig()
			config.Dir = dir
			config.UnsafeNoFsync = true
			config.LogLevel = "warn"
			config.WarningUnaryRequestDuration = embed.DefaultWarningUnaryRequestDuration // zero here: it would warn of each request
			client := url.URL{Scheme: "http", Host: "127.0.0.1:2379"}
			peer := url.URL{Scheme: "http", Host: "127.0.0.1:2380"}
			config.ListenClientUrls, config.AdvertiseClientUrls = []url.URL{client}, []url.URL{client}
			config.ListenPeerUrls, config.AdvertisePeerUrls = []url.URL{peer}, []url.URL{peer}
			config.InitialCluster = config.InitialClusterFromName(config.Name)
			server, err := embed.StartEtcd(config)
			if err != nil {
				return err
			}
			defer server.Close()
			select {
			case <-server.Server.ReadyNotify():
			case <-time.After(time.Minute):
				return fmt.Errorf("etcd was not ready within a minute in %s", dir)
			}
			stop := make(chan os.Signal, 1)
			signal.Notify(stop, syscall.SIGTERM, syscall.SIGINT)
			select {
			case <-stop:
				return nil
			case err := <-server.Err():
				return err
			}
		},
	}
	command.Flags().StringVar(&dir, "data-dir", "", "folder of the member's data")
	_ = command.MarkFlagRequired("data-dir")
	return command
}
