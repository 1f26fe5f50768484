-- +goose Up
alter type mood add value 'glad' before 'happy';
