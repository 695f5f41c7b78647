// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/tlog"
)

// What of the statement the verifier looks at.
type statement struct {
	Type          string `json:"_type"`
	PredicateType string
	Subject       []struct {
		Name   string
		Digest map[string]string
	}
	Predicate struct {
		Erasure      string
		LogIndex     int64 `json:"log_index"`
		Log          struct{ Origin string }
		Constituents []struct {
			Outcome string
			After   *struct{ Sha256 string }
		}
	}
}

// The name and the Ed25519 key of NAME+ID+KEY.
func publicKey(vkey string) (string, ed25519.PublicKey, error) {
	parts := strings.SplitN(vkey, "+", 3)
	if len(parts) != 3 {
		return "", nil, errors.New("not a verifier key")
	}
	key, err := base64.StdEncoding.DecodeString(parts[2])
	if err != nil || len(key) != 1+ed25519.PublicKeySize || key[0] != 1 {
		return "", nil, errors.New("not an Ed25519 verifier key")
	}
	return parts[0], key[1:], nil
}

// The payload of a DSSE envelope that the key signed.
func openEnvelope(data []byte, key ed25519.PublicKey) ([]byte, error) {
	var envelope struct {
		Payload, PayloadType string
		Signatures           []struct{ Keyid, Sig string }
	}
	if err := json.Unmarshal(data, &envelope); err != nil {
		return nil, err
	}
	payload, err := base64.StdEncoding.DecodeString(envelope.Payload)
	if err != nil {
		return nil, err
	}
	if envelope.PayloadType != "application/vnd.in-toto+json" {
		return nil, errors.New("the payload is not an in-toto statement")
	}
	signed := fmt.Sprintf("DSSEv1 %d %s %d %s", len(envelope.PayloadType), envelope.PayloadType,
		len(payload), payload)
	for _, s := range envelope.Signatures {
		sig, err := base64.StdEncoding.DecodeString(s.Sig)
		if err == nil && ed25519.Verify(key, []byte(signed), sig) {
			return payload, nil
		}
	}
	return nil, errors.New("no signature is this key's")
}

func readStatement(payload []byte, origin string) (*statement, error) {
	var s statement
	if err := json.Unmarshal(payload, &s); err != nil {
		return nil, err
	}
	if s.Type != "https://in-toto.io/Statement/v1" ||
		s.PredicateType != "urn:unlearnd:erasure-certificate:v1" {
		return nil, errors.New("not a certificate of an erasure")
	}
	if s.Predicate.Log.Origin != origin {
		return nil, errors.New("of another log")
	}
	retrained := 0
	for _, c := range s.Predicate.Constituents {
		if c.Outcome != "retrained" {
			continue
		}
		if c.After == nil || retrained >= len(s.Subject) ||
			s.Subject[retrained].Digest["sha256"] != c.After.Sha256 {
			return nil, errors.New("the subjects are not the new constituents")
		}
		retrained++
	}
	if len(s.Subject) == 0 || (retrained > 0 && retrained != len(s.Subject)) {
		return nil, errors.New("the subjects are not the new constituents")
	}
	return &s, nil
}

// A C2SP tlog-proof: the entry that it carries and where it stands in the tree that it signs.
func openProof(data []byte) (entry []byte, index int64, tree tlog.Tree, err error) {
	head, signed, found := bytes.Cut(data, []byte("\n\n"))
	lines := strings.Split(string(head), "\n")
	if !found || len(lines) < 3 || lines[0] != "c2sp.org/tlog-proof@v1" ||
		!strings.HasPrefix(lines[1], "extra ") || !strings.HasPrefix(lines[2], "index ") {
		return nil, 0, tree, errors.New("not a tlog-proof that carries its entry")
	}
	if entry, err = base64.StdEncoding.DecodeString(lines[1][6:]); err != nil {
		return
	}
	if index, err = strconv.ParseInt(lines[2][6:], 10, 64); err != nil {
		return
	}
	proof, err := hashes(lines[3:])
	if err != nil {
		return
	}
	if tree, err = openCheckpoint(signed); err != nil {
		return nil, 0, tree, fmt.Errorf("checkpoint: %w", err)
	}
	err = tlog.CheckRecord(tlog.RecordProof(proof), tree.N, tree.Hash, index, tlog.RecordHash(entry))
	if err != nil {
		err = fmt.Errorf("inclusion: %w", err)
	}
	return
}

func checkEntry(entry []byte, index int64, s *statement, payload []byte) error {
	var e struct {
		Index int64
		Type  string
		Data  struct{ Erasure, Certificate string }
	}
	if err := json.Unmarshal(entry, &e); err != nil {
		return err
	}
	digest := sha256.Sum256(payload)
	if index != s.Predicate.LogIndex || e.Index != index {
		return errors.New("it is another one than the certificate names")
	}
	if e.Type != "erasure.completed" || e.Data.Erasure != s.Predicate.Erasure {
		return errors.New("it does not record the end of this erasure")
	}
	if e.Data.Certificate != hex.EncodeToString(digest[:]) {
		return errors.New("it records another certificate")
	}
	return nil
}

func verifyCertificate(certificate, proof string) error {
	origin, key, err := publicKey(*vkey)
	if err != nil {
		return err
	}
	data, err := os.ReadFile(certificate)
	if err != nil {
		return err
	}
	payload, err := openEnvelope(data, key)
	if err != nil {
		return fmt.Errorf("signature: %w", err)
	}
	s, err := readStatement(payload, origin)
	if err != nil {
		return fmt.Errorf("statement: %w", err)
	}
	if data, err = os.ReadFile(proof); err != nil {
		return err
	}
	entry, index, tree, err := openProof(data)
	if err != nil {
		return err
	}
	if err := checkEntry(entry, index, s, payload); err != nil {
		return fmt.Errorf("entry: %w", err)
	}
	fmt.Printf("ok: erasure %s: entry %d of %d records the certificate\n", s.Predicate.Erasure,
		index, tree.N)
	return nil
}
