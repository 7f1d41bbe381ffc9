CREATE TABLE providers (
    npi             varchar(10) PRIMARY KEY,
    entity_type     smallint NOT NULL,
    name            text NOT NULL,
    taxonomy        varchar(10) NOT NULL,
    address         text NOT NULL,
    city            text NOT NULL,
    state           char(2) NOT NULL,
    zip             varchar(10) NOT NULL,
    phone           text
);
CREATE TABLE members (
    member_id       bigint PRIMARY KEY,
    mbi             varchar(11) NOT NULL,
    ssn             char(11) NOT NULL,
    first_name      text NOT NULL,
    last_name       text NOT NULL,
    birth_date      date NOT NULL,
    sex             char(1) NOT NULL,
    address         text NOT NULL,
    city            text NOT NULL,
    state           char(2) NOT NULL,
    zip             varchar(10) NOT NULL,
    phone           text,
    email           text,
    plan_code       varchar(8) NOT NULL,
    risk_score      double precision,
    effective_date  date NOT NULL,
    updated_at      timestamptz NOT NULL
);
CREATE TABLE claims (
    claim_id        bigint PRIMARY KEY,
    member_id       bigint NOT NULL,
    billing_npi     varchar(10) NOT NULL,
    patient_account varchar(20) NOT NULL,
    claim_type      char(1) NOT NULL,
    diagnosis_code  varchar(8) NOT NULL,
    drg             smallint,
    service_from    date NOT NULL,
    service_to      date NOT NULL,
    total_charge    numeric(12,2) NOT NULL,
    total_paid      numeric(12,2) NOT NULL,
    status          varchar(12) NOT NULL,
    in_network      boolean NOT NULL,
    received_at     timestamptz NOT NULL
);
CREATE INDEX ON claims (member_id);
CREATE TABLE claim_lines (
    claim_id            bigint NOT NULL,
    line_number         smallint NOT NULL,
    member_id           bigint NOT NULL,
    mbi                 varchar(11) NOT NULL,
    rendering_npi       varchar(10) NOT NULL,
    patient_account     varchar(20) NOT NULL,
    patient_name        text NOT NULL,
    patient_birth_date  date NOT NULL,
    service_zip         varchar(10) NOT NULL,
    service_date        date NOT NULL,
    paid_date           date,
    device_serial       varchar(24),
    remark              text,
    procedure_code      varchar(5) NOT NULL,
    modifier            varchar(2),
    revenue_code        varchar(4),
    ndc                 varchar(11),
    place_of_service    varchar(2) NOT NULL,
    diagnosis_code      varchar(8) NOT NULL,
    units               numeric(9,2) NOT NULL,
    charge_amount       numeric(12,2) NOT NULL,
    allowed_amount      numeric(12,2) NOT NULL,
    paid_amount         numeric(12,2) NOT NULL,
    line_status         varchar(10) NOT NULL,
    repriced_at         timestamptz,
    PRIMARY KEY (claim_id, line_number)
);
CREATE TABLE claim_notes (
    note_id         bigint PRIMARY KEY,
    claim_id        bigint NOT NULL,
    author_npi      varchar(10) NOT NULL,
    written_at      timestamptz NOT NULL,
    note_type       varchar(12) NOT NULL,
    status          varchar(12) NOT NULL,
    body            text NOT NULL,
    findings        jsonb NOT NULL
);
CREATE TABLE eligibility_staging (
    batch_id        integer NOT NULL,
    row_number      integer NOT NULL,
    member_id       bigint NOT NULL,
    plan_code       varchar(8) NOT NULL,
    effective_date  date NOT NULL,
    PRIMARY KEY (batch_id, row_number)
);
