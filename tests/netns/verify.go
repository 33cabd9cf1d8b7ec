// Judges a chain as Go's crypto/x509 does, which is what Prometheus believes. Standard library only.
//
//	verify ROOTS CHAIN server|client [NAME]
package main

import (
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
)

func certificates(path string) []*x509.Certificate {
	rest, err := os.ReadFile(path)
	if err != nil {
		fmt.Println(err)
		os.Exit(2)
	}
	var all []*x509.Certificate
	for block, more := pem.Decode(rest); block != nil; block, more = pem.Decode(more) {
		one, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			fmt.Println(err)
			os.Exit(2)
		}
		all = append(all, one)
	}
	return all
}

func main() {
	options := x509.VerifyOptions{Roots: x509.NewCertPool(), Intermediates: x509.NewCertPool(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	if os.Args[3] == "client" {
		options.KeyUsages[0] = x509.ExtKeyUsageClientAuth
	}
	if len(os.Args) > 4 {
		options.DNSName = os.Args[4]
	}
	for _, root := range certificates(os.Args[1]) {
		options.Roots.AddCert(root)
	}
	chain := certificates(os.Args[2])
	for _, one := range chain[1:] {
		options.Intermediates.AddCert(one)
	}
	if len(chain[0].UnhandledCriticalExtensions) > 0 {
		fmt.Println("unhandled critical extensions", chain[0].UnhandledCriticalExtensions)
		os.Exit(1)
	}
	if _, err := chain[0].Verify(options); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println("ok")
}
